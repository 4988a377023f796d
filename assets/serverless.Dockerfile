# The image of @RELEASE@ for Spark, with the place for event logs among its settings.
# AWS publishes one image a release, under this tag.
# hadolint ignore=DL3007
FROM public.ecr.aws/emr-serverless/spark/@RELEASE@:latest

USER root
COPY spark-defaults.conf /tmp/emr-shs-spark-defaults.conf
# Added to the settings that the image needs, at their end, where the last one wins. The build
# fails if they are not where they are expected.
RUN test -f /etc/spark/conf/spark-defaults.conf \
 && printf '\n' >> /etc/spark/conf/spark-defaults.conf \
 && cat /tmp/emr-shs-spark-defaults.conf >> /etc/spark/conf/spark-defaults.conf \
 && rm /tmp/emr-shs-spark-defaults.conf

# As EMR Serverless runs it.
USER hadoop:hadoop
