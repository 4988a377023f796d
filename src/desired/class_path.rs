//! The class path of the history server: links to the jars that the server lacks, and the drop-in that names them.

use super::{Context, directory, drop_in, environment, exactly, file_owner};
use crate::change::desired::Desired;
use crate::change::resource::{Resource, State};
use crate::node::jars::Link;
use crate::paths::{DROP_IN, LINK_DIR};
use crate::settings::LinkInto;
use anyhow::Result;
use std::path::Path;

impl Context<'_> {
    /// The links and what they need. Links do not go into `/usr/lib/spark/jars` by default: EMR sets neither
    /// `spark.yarn.jars` nor `spark.yarn.archive`, so every job uploads what lies there, and an SDK bundle
    /// would add half a gigabyte to the start of each job.
    pub(super) fn class_path(&self) -> Result<Vec<Desired>> {
        // A history server that reads the event-log cache needs no class for S3.
        let Some(scheme) = self.scheme.filter(|_| self.cache.is_none()) else { return Ok(Vec::new()) };
        let links = scheme.links(self.host, &self.settings.jars, self.force)?;
        if links.is_empty() {
            return Ok(Vec::new());
        }
        Ok(match self.settings.link_into {
            LinkInto::SparkJars => {
                let jars = self.node.spark.home.join("jars");
                links.into_iter().map(|link| desired_link(&jars, "emr-shs-", link)).collect()
            }
            LinkInto::Daemon => self.for_the_server_alone(links),
        })
    }

    fn for_the_server_alone(&self, links: Vec<Link>) -> Vec<Desired> {
        let owner = file_owner(self.host);
        let dir = Path::new(LINK_DIR);
        let mut desired = vec![
            directory(dir.parent().unwrap_or(dir), owner, "holds what emr-shs adds"),
            directory(dir, owner, "holds the links to jars"),
        ];
        desired.extend(links.into_iter().map(|link| desired_link(dir, "", link)));
        desired.extend(drop_in(
            self.host,
            DROP_IN,
            "# The class path of the history server alone: jobs are not affected.\n",
            &format!("[Service]\n{}", environment("SPARK_DAEMON_CLASSPATH", &self.elements())),
            "sets the class path of the history server alone; jobs are not affected",
        ));
        desired
    }

    /// The class path in the environment of the history server's unit. What another setting put there
    /// comes first. Spark's own jars come before the links, because the bundle of AWS SDK v2 contains an SLF4J
    /// and a Netty of its own: in front of Spark's jars they leave the history server without a log, or dead.
    fn elements(&self) -> String {
        let links = format!("{LINK_DIR}/*");
        let sparks = format!("{}/jars/*", self.node.spark.home.display());
        let server = self.node.server.as_ref();
        let set = server.and_then(|s| s.unit.environment.get("SPARK_DAEMON_CLASSPATH")).map_or("", String::as_str);
        let mut elements: Vec<&str> =
            set.split(':').filter(|element| !element.is_empty() && *element != links && *element != sparks).collect();
        elements.extend([sparks.as_str(), links.as_str()]);
        elements.join(":")
    }
}

fn desired_link(dir: &Path, prefix: &str, Link { name, jar, why }: Link) -> Desired {
    exactly(Resource::Link { path: dir.join(format!("{prefix}{name}")) }, State::Link { target: jar }, &why)
}
