import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Records at a rate to one partition, read by many consumers at its end; latency from when each was due. */
public class FanOut {
    public static void main(String[] args) throws Exception {
        String address = args[0], topic = args[1];
        int readers = Integer.parseInt(args[2]), size = Integer.parseInt(args[4]), records = Integer.parseInt(args[5]);
        double rate = Double.parseDouble(args[3]);
        long[][] latency = new long[readers][records];
        CountDownLatch ready = new CountDownLatch(readers);
        Thread[] threads = new Thread[readers];
        for (int reader = 0; reader < readers; reader++) {
            long[] mine = latency[reader];
            threads[reader] = new Thread(() -> read(address, topic, mine, ready));
            threads[reader].start();
        }
        ready.await();
        Properties settings = new Properties();
        settings.put("bootstrap.servers", address);
        settings.put("acks", "all");
        settings.put("linger.ms", "0");
        long began = System.nanoTime();
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            producer.partitionsFor(topic);
            began = System.nanoTime();
            for (int number = 0; number < records; number++) {
                long due = began + (long) (number / rate * 1e9);
                for (long left; (left = due - System.nanoTime()) > 0; ) LockSupport.parkNanos(left);
                byte[] value = new byte[size];
                ByteBuffer.wrap(value).putLong(due);
                producer.send(new ProducerRecord<>(topic, 0, null, value));
            }
        }
        for (Thread thread : threads) thread.join();
        double seconds = (System.nanoTime() - began) / 1e9;
        long[] all = Arrays.stream(latency).flatMapToLong(Arrays::stream).sorted().toArray();
        System.out.printf(
            "{\"records\": %d, \"seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f}%n",
            all.length, seconds, all[all.length / 2] / 1e3, all[(int) (all.length * 0.99)] / 1e3);
    }

    static void read(String address, String topic, long[] latency, CountDownLatch ready) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", address);
        settings.put("fetch.max.wait.ms", "500");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            consumer.position(partition);
            ready.countDown();
            for (int seen = 0; seen < latency.length; ) {
                for (var record : consumer.poll(Duration.ofSeconds(60))) {
                    latency[seen++] = System.nanoTime() - ByteBuffer.wrap(record.value()).getLong();
                }
            }
        }
    }
}
