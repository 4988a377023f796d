# Builds the layers of nodes' root directories. A layer is built once for its recipe and inputs, and stays in the cache.
# Sourced by lab/node.
# shellcheck shell=bash disable=SC2034,SC2154

profiles=(5.33 6.4 7.1 7.12 8.1 hardened)
declare -A spark_of=([5.33]=2.4.7 [6.4]=3.1.2 [7.1]=3.5.8 [7.12]=3.5.8 [8.1]=4.1.1 [hardened]=3.5.8)

# --- Functions for the recipes in lab/layers --------------------------------------------------------------------

# jar_file FILE... DIR: makes hard links, which need no space, or else copies.
jar_file() { cp -l "$@" 2>/dev/null || cp "$@"; }

# dummy_jar FILE ENTRY: makes a jar with one empty entry.
dummy_jar() {
  scratch
  mkdir -p "$REPLY/$(dirname "$2")" "$(dirname "$1")"
  : >"$REPLY/$2"
  jar --create --file "$1" -C "$REPLY" .
}

# class_path_jar FILE JAR...: makes a jar with only a manifest that names other jars.
class_path_jar() {
  scratch
  printf 'Class-Path:' >"$REPLY/manifest"
  printf ' %s\n ' "${@:2}" >>"$REPLY/manifest"
  echo >>"$REPLY/manifest"
  jar --create --file "$1" --manifest "$REPLY/manifest"
}

# emrfs VERSION HADOOP_AWS SDK: makes a stand-in for EMRFS. The real jar contains copies of all that it needs. This one finds them
# through its manifest, in a directory that nothing else reads.
emrfs() {
  local dir=$out/usr/share/aws/emr/emrfs/lib jar sdk=$3
  jar=$dir/emrfs-hadoop-assembly-$1.jar
  mkdir -p "$dir" "$out/opt/lab/emrfs-private"
  jar_file "$downloads/$2" "$downloads/$sdk" "$out/opt/lab/emrfs-private/"
  class_path_jar "$jar" "/opt/lab/emrfs-private/$2" "/opt/lab/emrfs-private/$sdk"
  scratch
  javac --release 17 -nowarn -cp "$(compile_path):$downloads/$2:$downloads/$sdk" -d "$REPLY" "$lab/java/EmrFileSystem.java"
  jar --update --file "$jar" -C "$REPLY" com
}

# compile_path: prints the class path of Spark and of the profile's Hadoop, which must come first.
compile_path() { echo "$out/usr/lib/spark/jars/*:$spark/usr/lib/spark/jars/*:$spark/opt/lab/hadoop-client/*"; }

# lab_jars: compiles the stand-in for HDFS and the test application for this profile's Spark.
lab_jars() {
  local name jar
  mkdir -p "$out"/usr/lib/spark/jars "$out/opt/lab"
  while read -r name jar; do
    scratch
    javac --release 17 -nowarn -cp "$(compile_path)" -d "$REPLY" "$lab/java/$name.java"
    jar --create --file "$out/$jar" -C "$REPLY" .
  done <<'LIST'
LabHdfs usr/lib/spark/jars/lab-hdfs.jar
TinyApp opt/lab/tiny-app.jar
LIST
}

# node_files LABEL CLASS: writes Spark's settings, the files with the release label or the class of s3://, and the texts
# beside the SDK's jars.
node_files() {
  local dir
  mkdir -p "$out"/etc/{hadoop/conf,lab,spark/conf.dist} "$out/mnt/var/lib/info"
  install -m 644 "$lab/emr/spark-defaults-7.1.0.conf" "$out/etc/spark/conf.dist/spark-defaults.conf"
  install -m 644 "$lab/emr/spark-env-7.1.0.sh" "$out/etc/spark/conf.dist/spark-env.sh"
  # A history server lives for seconds here: without Java's optimizing compiler its start needs half the processor time.
  cat >>"$out/etc/spark/conf.dist/spark-env.sh" <<'ENV'

export SPARK_DAEMON_JAVA_OPTS="$SPARK_DAEMON_JAVA_OPTS -XX:TieredStopAtLevel=1"
export SPARK_LAUNCHER_OPTS="$SPARK_LAUNCHER_OPTS -XX:TieredStopAtLevel=1"
export SPARK_SUBMIT_OPTS="$SPARK_SUBMIT_OPTS -XX:TieredStopAtLevel=1"
ENV
  sed -e "s/@S3_CLASS@/$2/" "$lab/templates/core-site.xml" >"$out/etc/hadoop/conf/core-site.xml"
  sed -e "s/@LABEL@/$1/" "$lab/templates/standin.json" >"$out/etc/lab/standin.json"
  sed -e 's/j-0SYNTHETIC00/j-3H6EATEWWRWS/; s/"localhost"/"ip-172-31-59-96.ec2.internal"/' -e "s/emr-6.15.0/$1/" \
    "$lab/emr/job-flow-state.synthetic.txt" >"$out/mnt/var/lib/info/job-flow-state.txt"
  sed -e 's/j-1PJ03JVIDQH3T/j-3H6EATEWWRWS/; s/us-east-1/eu-west-3/; s/"localhost"/"ip-172-31-59-96.ec2.internal"/' \
    -e "s/emr-5.29.0/$1/; s/\"s3.amazonaws.com\"/\"s3.eu-west-3.amazonaws.com\"/" \
    "$lab/emr/extraInstanceData-5.29.0.json" >"$out/mnt/var/lib/info/extraInstanceData.json"
  for dir in "$out"/usr/share/aws/aws-java-sdk*; do
    echo 'The licence of the SDK lies here on a real node.' >"$dir/LICENSE.txt"
    echo 'The notice of the SDK lies here on a real node.' >"$dir/NOTICE.txt"
  done
}

# older_settings: writes the settings of release 5.23, because none of a release between 5.23 and 7.1 were found. These
# releases run on Java 8. On the node's Java 17 the history server of Spark 3.1 needs an option, and its jobs do not run.
older_settings() {
  local conf=$out/etc/spark/conf.dist
  sed -e '/^spark\.history\.kerberos\./d' -e 's/ip-10-0-0-10\.ec2\.internal/ip-172-31-59-96.ec2.internal/' \
    "$lab/emr/spark-defaults-5.23.0-kerberos.conf" >"$conf/spark-defaults.conf"
  sed -i '/JAVA17_HOME/d' "$conf/spark-env.sh"
  echo 'export JDK_JAVA_OPTIONS="--add-opens=java.base/java.nio=ALL-UNNAMED"' >>"$conf/spark-env.sh"
  # Their S3A does not know fs.s3a.endpoint.region. The SDK derives the region from the host's name.
  echo '{"hostRegexToRegionMappings": [{"hostNameRegex": "127[.]0[.]0[.]1", "regionName": "eu-west-3"}]}' \
    >"$out/etc/hadoop/conf/awssdk_config_override.json"
}

# --- The layers ---------------------------------------------------------------------------------------------------

# key FILE|DIR...: prints a hash of names and contents below lab/.
key() { (cd "$lab" && find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12); }

# layer NAME INPUT...: sets REPLY to the layer's directory, and builds the layer if there is none of this recipe and these
# inputs. The part of the name after '-' is the recipe's $version. With $pruning nothing is built.
layer() {
  local name=$1 out recipe=${1%%-*} version=${1#*-}
  shift
  local target
  target=$cache/layers/$name-$(key "layers/$recipe" "$@")
  if [[ ! -d $target && ! ${pruning-} ]]; then
    say "building layer $name"
    scratch
    out=$REPLY/layer
    mkdir -p "$out" "$cache/layers"
    # shellcheck source=/dev/null
    source "$lab/layers/$recipe"
    mv "$out" "$target"
  fi
  REPLY=$target
}

# layers PROFILE: builds missing layers, and sets os, spark, s3server, awscli, labfiles and profile_files to their directories.
layers() {
  layer os
  os=$REPLY
  layer "spark-${spark_of[$1]}" deps.txt
  spark=$REPLY
  layer s3 s3server
  s3server=$REPLY
  layer awscli awscli.txt
  awscli=$REPLY
  layer lab root emr layers/os
  labfiles=$REPLY
  layer "$1" lib/bases.sh deps.txt templates emr java layers/spark layers/7.12
  profile_files=$REPLY
}
