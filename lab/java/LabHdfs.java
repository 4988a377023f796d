package lab;

import java.io.File;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.attribute.PosixFileAttributes;
import java.nio.file.attribute.PosixFilePermissions;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.fs.permission.FsPermission;

/** Stands in for HDFS: hdfs:///x is the file /srv/hdfs/x. */
public class LabHdfs extends RawLocalFileSystem {
    private URI uri;

    @Override
    public void initialize(URI name, Configuration conf) throws IOException {
        uri = URI.create(name.getScheme() + "://" + (name.getAuthority() == null ? "/" : name.getAuthority()));
        super.initialize(name, conf);
    }

    @Override
    public URI getUri() {
        return uri == null ? URI.create("hdfs:///") : uri;
    }

    @Override
    public String getScheme() {
        return "hdfs";
    }

    @Override
    public Path getHomeDirectory() {
        return makeQualified(new Path("/user/" + System.getProperty("user.name")));
    }

    @Override
    protected Path getInitialWorkingDirectory() {
        return new Path(getUri().toString() + "/user/" + System.getProperty("user.name"));
    }

    @Override
    public File pathToFile(Path path) {
        Path absolute = path.isAbsolute() ? path : new Path(getWorkingDirectory(), path);
        return new File("/srv/hdfs", absolute.toUri().getPath());
    }

    @Override
    public FileStatus getFileStatus(Path path) throws IOException {
        File file = pathToFile(path);
        if (!file.exists()) {
            throw new FileNotFoundException("File does not exist: " + path);
        }
        PosixFileAttributes attributes =
                Files.readAttributes(file.toPath(), PosixFileAttributes.class, LinkOption.NOFOLLOW_LINKS);
        boolean sticky = ((Integer) Files.getAttribute(file.toPath(), "unix:mode") & 01000) != 0;
        FsPermission bits = FsPermission.valueOf("-" + PosixFilePermissions.toString(attributes.permissions()));
        return new FileStatus(
                attributes.size(), attributes.isDirectory(), 1, getDefaultBlockSize(path),
                attributes.lastModifiedTime().toMillis(), attributes.lastAccessTime().toMillis(),
                new FsPermission(bits.getUserAction(), bits.getGroupAction(), bits.getOtherAction(), sticky),
                attributes.owner().getName(), attributes.group().getName(), makeQualified(path));
    }

    @Override
    public FileStatus getFileLinkStatus(Path path) throws IOException {
        return getFileStatus(path);
    }
}
