step {
  name              = {{ NAME|hcl }}
  action_on_failure = {{ ON_FAILURE|hcl }}

  hadoop_jar_step {
    jar  = {{ jar|hcl }}
    args = [
{%- for argument in arguments %}
      {{ argument|hcl }},
{%- endfor %}
    ]
  }
}
