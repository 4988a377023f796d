bootstrap_action {
  name = {{ NAME|hcl }}
  path = {{ path|hcl }}
  args = [
{%- for argument in arguments %}
    {{ argument|hcl }},
{%- endfor %}
  ]
}
