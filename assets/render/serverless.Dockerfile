# The Spark image of {{ release }}, plus the event log settings of the application.
# AWS publishes one image per release, under this tag.
# hadolint ignore=DL3007
FROM public.ecr.aws/emr-serverless/spark/{{ release }}:latest

USER root
COPY spark-defaults.conf /tmp/emr-shs-spark-defaults.conf
# Append the settings to the image's own file: the image needs its settings, and of two lines
# for one key Spark takes the last. The build fails if the image keeps the file elsewhere.
RUN test -f /etc/spark/conf/spark-defaults.conf \
 && printf '\n' >> /etc/spark/conf/spark-defaults.conf \
 && cat /tmp/emr-shs-spark-defaults.conf >> /etc/spark/conf/spark-defaults.conf \
 && rm /tmp/emr-shs-spark-defaults.conf

# EMR Serverless runs the image as this user.
USER hadoop:hadoop
