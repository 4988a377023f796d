import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.concurrent.LinkedBlockingQueue;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.LocatedFileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RemoteIterator;

/**
 * Does on a file system of Hadoop what the lines of its standard input ask for, and answers each with a line. Words are separated
 * by spaces; the command is a plain word, the others are Base64. Settings arrive here and not as arguments, because every account
 * of a machine can read arguments.
 *
 * <p>This file is compiled to HadoopClient.class, which emr-shs contains:
 * javac --release 8 -g:none -cp 'SPARK/jars/*' HadoopClient.java
 */
public class HadoopClient {
  /** How many entries of a directory are looked at until one is a file with content. */
  private static final int ENTRIES = 1000;

  private static final PrintStream OUT = System.out;
  private static final Configuration CONF = new Configuration();

  public static void main(String[] arguments) throws IOException {
    // What others print must not come between the answers.
    System.setOut(System.err);
    LinkedBlockingQueue<String> lines = new LinkedBlockingQueue<>();
    Thread worker = new Thread(() -> answerAll(lines));
    worker.setDaemon(true);
    worker.start();
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
    String line;
    while ((line = in.readLine()) != null) {
      lines.add(line);
    }
    // Whoever asked is gone. A request that hangs, and threads of an SDK, must not keep this process.
    Runtime.getRuntime().halt(0);
  }

  private static void answerAll(LinkedBlockingQueue<String> lines) {
    while (true) {
      StringBuilder answer = new StringBuilder();
      try {
        say(answer, "yes", carryOut(lines.take().split(" ", -1)));
      } catch (Throwable error) {
        answer.setLength(0);
        say(answer, "no", null);
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
          answer.append(' ').append(encode(cause.getClass().getName())).append(' ').append(encode(cause.getMessage()));
        }
      }
      OUT.println(answer);
      OUT.flush();
    }
  }

  private static String carryOut(String[] words) throws IOException {
    if (words[0].equals("set")) {
      CONF.set(decode(words[1]), decode(words[2]));
      return null;
    }
    Path path = new Path(decode(words[1]));
    FileSystem files = path.getFileSystem(CONF);
    switch (words[0]) {
      case "exists":
        return String.valueOf(files.exists(path));
      case "make-directory":
        return String.valueOf(files.mkdirs(path));
      case "write":
        try (OutputStream out = files.create(path, true)) {
          out.write(Base64.getDecoder().decode(words[2]));
        }
        return null;
      case "list":
        return firstFile(files, path);
      case "read":
        try (InputStream in = files.open(path)) {
          return String.valueOf(in.read() >= 0);
        }
      case "delete":
        return String.valueOf(files.delete(path, false));
      default:
        throw new IllegalArgumentException(words[0]);
    }
  }

  /** The name of a file with content below a directory; null if there is none among the first entries. */
  private static String firstFile(FileSystem files, Path directory) throws IOException {
    RemoteIterator<LocatedFileStatus> entries = files.listLocatedStatus(directory);
    for (int i = 0; i < ENTRIES && entries.hasNext(); i++) {
      FileStatus entry = entries.next();
      if (entry.isFile() && entry.getLen() > 0) {
        return entry.getPath().toString();
      }
    }
    return null;
  }

  private static void say(StringBuilder answer, String word, String text) {
    answer.append("emr-shs ").append(word);
    if (text != null) {
      answer.append(' ').append(encode(text));
    }
  }

  private static String encode(String text) {
    return Base64.getEncoder().encodeToString(String.valueOf(text).getBytes(StandardCharsets.UTF_8));
  }

  private static String decode(String word) {
    return new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8);
  }
}
