import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;
import org.HdrHistogram.Histogram;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Puts the works of benches/compare on Kafka, and prints one JSON object of figures.
 *
 * <p>One topic of one partition and three replicas for each run, by Kafka's own client.
 */
final class Load {
    /** Time within which everything that is under way must have been acknowledged. */
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private static final long FILL_NS = TimeUnit.SECONDS.toNanos(3);

    private final Map<String, String> flags;
    private final String topic = "load-" + System.nanoTime();

    private Load(Map<String, String> flags) {
        this.flags = flags;
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> flags = new HashMap<>();
        for (int i = 0; i + 1 < args.length; i += 2) {
            flags.put(args[i], args[i + 1]);
        }
        new Load(flags).run();
        // Threads of clients that were cut off from a killed broker take their time to end.
        System.exit(0);
    }

    private int number(String flag) {
        return Integer.parseInt(flags.get(flag));
    }

    private void run() throws Exception {
        Properties common = new Properties();
        common.put("bootstrap.servers", flags.get("--servers"));
        try (Admin admin = Admin.create(common)) {
            create(admin);
            switch (flags.get("--work")) {
                case "produce" -> produce();
                case "consume" -> consume();
                case "failover" -> failover(admin);
                default -> throw new IllegalArgumentException("unknown work " + flags.get("--work"));
            }
            if (!flags.get("--work").equals("failover")) {
                admin.deleteTopics(List.of(topic)).all().get();
            }
        }
    }

    private void create(Admin admin) throws Exception {
        NewTopic asked = new NewTopic(topic, 1, (short) 3);
        Map<String, String> configs = new HashMap<>(Map.of("min.insync.replicas", "2"));
        if (flags.containsKey("--flush-messages")) {
            configs.put("flush.messages", flags.get("--flush-messages"));
        }
        admin.createTopics(List.of(asked.configs(configs))).all().get();
        long began = System.nanoTime();
        while (leader(admin, 3) < 0) {
            if (System.nanoTime() - began > PATIENCE.toNanos()) {
                throw new IllegalStateException("the topic has no three replicas in sync");
            }
            Thread.sleep(50);
        }
    }

    /** Number of the leader, from 0; below that if there is none, or fewer replicas in sync. */
    private int leader(Admin admin, int inSync) throws Exception {
        try {
            var partition = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().get(0);
            return partition.leader() == null || partition.isr().size() < inSync ? -1 : partition.leader().id() - 1;
        } catch (java.util.concurrent.ExecutionException notYetEverywhere) {
            return -1;
        }
    }

    private KafkaProducer<byte[], byte[]> producer() {
        Properties config = new Properties();
        config.put("bootstrap.servers", flags.get("--servers"));
        config.put("key.serializer", ByteArraySerializer.class.getName());
        config.put("value.serializer", ByteArraySerializer.class.getName());
        config.put("acks", "all");
        config.put("delivery.timeout.ms", "60000");
        config.put("buffer.memory", String.valueOf(256 << 20));
        config.put("max.request.size", String.valueOf(4 << 20));
        for (String name : List.of("linger.ms", "batch.size", "enable.idempotence", "max.in.flight.requests.per.connection")) {
            if (flags.containsKey("--" + name)) {
                config.put(name, flags.get("--" + name));
            }
        }
        return new KafkaProducer<>(config);
    }

    private byte[] value() {
        byte[] value = new byte[number("--record-bytes")];
        Random random = new Random(1);
        for (int i = 0; i < value.length; i++) {
            value[i] = (byte) ('a' + random.nextInt(26));
        }
        return value;
    }

    private void produce() throws Exception {
        int rate = number("--rate");
        long warmUp = TimeUnit.SECONDS.toNanos(number("--warm-up"));
        long measured = TimeUnit.SECONDS.toNanos(number("--seconds"));
        // At a rate, what is not acknowledged piles up here; more seconds of it than this is an overload that shows anyway.
        int inFlight = rate > 0 ? 30 * rate : number("--in-flight");
        Semaphore room = new Semaphore(inFlight);
        AtomicReference<Exception> failure = new AtomicReference<>();
        Histogram latency = new Histogram(TimeUnit.SECONDS.toNanos(120), 3);
        AtomicLong done = new AtomicLong();
        byte[] value = value();
        long start = System.nanoTime();
        long begins = start + warmUp;
        long ends = begins + measured;
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (long n = 0; failure.get() == null; n++) {
                long due = rate > 0 ? start + n * TimeUnit.SECONDS.toNanos(1) / rate : System.nanoTime();
                if (due >= ends) {
                    break;
                }
                for (long early = due - System.nanoTime(); early > 0; early = due - System.nanoTime()) {
                    LockSupport.parkNanos(early);
                }
                room.acquire();
                long begun = rate > 0 ? due : System.nanoTime();
                producer.send(new ProducerRecord<>(topic, 0, null, value), (about, error) -> {
                    long now = System.nanoTime();
                    if (error != null) {
                        failure.compareAndSet(null, error);
                    }
                    if (now >= begins && now < ends) {
                        done.incrementAndGet();
                    }
                    if (begun >= begins && begun < ends) {
                        latency.recordValue(Math.min(now - begun, latency.getHighestTrackableValue()));
                    }
                    room.release();
                });
            }
            producer.flush();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        print(done.get(), measured / 1e9, latency);
    }

    /** Fills the topic, then reads it from its start, again and again. */
    private void consume() throws Exception {
        byte[] value = value();
        long max = number("--records-max");
        long records = 0;
        AtomicReference<Exception> failure = new AtomicReference<>();
        Semaphore room = new Semaphore(number("--in-flight"));
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            for (long began = System.nanoTime(); records < max && System.nanoTime() - began < FILL_NS; records++) {
                room.acquire();
                producer.send(new ProducerRecord<>(topic, 0, null, value), (about, error) -> {
                    if (error != null) {
                        failure.compareAndSet(null, error);
                    }
                    room.release();
                });
            }
            producer.flush();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        Properties config = new Properties();
        config.put("bootstrap.servers", flags.get("--servers"));
        config.put("key.deserializer", ByteArrayDeserializer.class.getName());
        config.put("value.deserializer", ByteArrayDeserializer.class.getName());
        config.put("max.poll.records", "100000");
        config.put("fetch.max.bytes", String.valueOf(64 << 20));
        config.put("max.partition.fetch.bytes", String.valueOf(16 << 20));
        config.put("receive.buffer.bytes", String.valueOf(4 << 20));
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config)) {
            List<TopicPartition> partition = List.of(new TopicPartition(topic, 0));
            consumer.assign(partition);
            long warm = System.nanoTime() + TimeUnit.SECONDS.toNanos(number("--warm-up"));
            do {
                read(consumer, partition, records);
            } while (System.nanoTime() < warm);
            long began = System.nanoTime();
            long ends = began + TimeUnit.SECONDS.toNanos(number("--seconds"));
            long read = 0;
            while (System.nanoTime() < ends) {
                read(consumer, partition, records);
                read += records;
            }
            print(read, (System.nanoTime() - began) / 1e9, null);
        }
    }

    private static void read(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> partition, long records) {
        consumer.seekToBeginning(partition);
        long read = 0;
        while (read < records) {
            int polled = consumer.poll(PATIENCE).count();
            if (polled == 0) {
                throw new IllegalStateException("only " + read + " of " + records + " records came");
            }
            read += polled;
        }
    }

    /** Sends a record each millisecond, kills the leader, and waits for the ack of a record sent after that. */
    private void failover(Admin admin) throws Exception {
        AtomicLong newest = new AtomicLong(Long.MIN_VALUE);
        byte[] value = value();
        KafkaProducer<byte[], byte[]> producer = producer();
        Thread sender = new Thread(() -> {
            while (!Thread.interrupted()) {
                long sent = System.nanoTime();
                producer.send(new ProducerRecord<>(topic, 0, null, value), (about, error) -> {
                    if (error == null) {
                        newest.accumulateAndGet(sent, Math::max);
                    }
                });
                LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(1));
            }
        });
        sender.setDaemon(true);
        sender.start();
        Thread.sleep(TimeUnit.SECONDS.toMillis(number("--warm-up")));
        String[] pids = flags.get("--pids").split(",");
        ProcessHandle leader = ProcessHandle.of(Long.parseLong(pids[leader(admin, 1)])).orElseThrow();
        long killed = System.nanoTime();
        leader.destroyForcibly();
        while (newest.get() <= killed) {
            if (System.nanoTime() - killed > PATIENCE.toNanos()) {
                throw new IllegalStateException("no ack within " + PATIENCE + " of the kill");
            }
            LockSupport.parkNanos(TimeUnit.MICROSECONDS.toNanos(500));
        }
        Histogram gap = new Histogram(3);
        gap.recordValue(System.nanoTime() - killed);
        print(0, 1, gap);
    }

    private void print(long records, double seconds, Histogram latency) {
        double perSecond = records / seconds;
        String times = "null";
        if (latency != null) {
            double[] ms = Arrays.stream(new double[] {50, 99, 100}).map(p -> latency.getValueAtPercentile(p) / 1e6).toArray();
            times = String.format(Locale.ROOT, "{\"p50\":%.4f,\"p99\":%.4f,\"max\":%.4f}", ms[0], ms[1], ms[2]);
        }
        System.out.printf(
                Locale.ROOT,
                "{\"records\":%d,\"seconds\":%.3f,\"records_per_s\":%.1f,\"mb_per_s\":%.3f,\"latency_ms\":%s}%n",
                records, seconds, perSecond, perSecond * number("--record-bytes") / 1e6, times);
    }
}
