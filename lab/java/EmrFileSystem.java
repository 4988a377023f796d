package com.amazon.ws.emr.hadoop.fs;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.Paths;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.s3a.S3AFileSystem;
import org.apache.hadoop.security.UserGroupInformation;

/**
 * Stands in for EMRFS, under its name: s3:// that needs this class and an SDK to be on the class path. It maps accounts to roles, as
 * EMRFS can: each line of /etc/lab/role-mapping is an account, an access key and a secret key.
 */
public class EmrFileSystem extends S3AFileSystem {
  private static final Path MAPPING = Paths.get("/etc/lab/role-mapping");

  @Override
  public void initialize(URI uri, Configuration original) throws IOException {
    Configuration conf = new Configuration(original);
    if (Files.exists(MAPPING)) {
      for (String line : Files.readAllLines(MAPPING)) {
        String[] words = line.split(" ");
        if (words[0].equals(UserGroupInformation.getCurrentUser().getShortUserName())) {
          // The names for one bucket, too: S3A prefers them, and EMRFS knows none of S3A's keys.
          for (String prefix : new String[] {"fs.s3a.", "fs.s3a.bucket." + uri.getHost() + ".fs.s3a."}) {
            conf.set(prefix + "access.key", words[1]);
            conf.set(prefix + "secret.key", words[2]);
          }
        }
      }
    }
    super.initialize(uri, conf);
  }
}
