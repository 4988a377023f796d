import java.util.ArrayList;
import java.util.List;
import org.apache.spark.SparkConf;
import org.apache.spark.api.java.JavaSparkContext;

/** A real little Spark application: TinyApp [NAME [NUMBERS]] counts the even numbers below NUMBERS. */
public class TinyApp {
    public static void main(String[] args) {
        String name = args.length > 0 ? args[0] : "TinyApp";
        int numbers = args.length > 1 ? Integer.parseInt(args[1]) : 1000;
        List<Integer> all = new ArrayList<>();
        for (int i = 0; i < numbers; i++) {
            all.add(i);
        }
        try (JavaSparkContext context = new JavaSparkContext(new SparkConf().setAppName(name))) {
            long even = context.parallelize(all, 2).filter(i -> i % 2 == 0).count();
            System.out.println(context.sc().applicationId() + " " + name + ": " + even + " even numbers");
        }
    }
}
