package com.amazon.ws.emr.hadoop.fs;

import org.apache.hadoop.fs.s3a.S3AFileSystem;

/** Stands in for EMRFS, under its name: s3:// that needs this class and an SDK to be on the class path. */
public class EmrFileSystem extends S3AFileSystem {}
