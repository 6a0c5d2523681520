import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import dev.meshlog.v1.*;
import io.grpc.StatusRuntimeException;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.stream.IntStream;

/**
 * The scenarios of scenarios.json in Java: {@code java Conformance SCENARIOS BROKER PROXY}.
 *
 * <p>Only generated stubs and grpc-java. Prints one line per scenario.
 */
public final class Conformance extends Support {
  /** A scenario: what it gives and expects. */
  interface Action {
    void run(JsonObject given, JsonObject expect) throws Exception;
  }

  private final Map<String, Action> actions = Map.ofEntries(
      Map.entry("create", this::create), Map.entry("split", this::split), Map.entry("read_from", this::readFrom),
      Map.entry("decode", this::decode), Map.entry("compact", this::compact),
      Map.entry("follow", this::follow), Map.entry("resume", this::resume),
      Map.entry("idle", this::idle), Map.entry("fail", this::fail), Map.entry("retry", this::retry),
      Map.entry("retry_by_config", this::retryByConfig), Map.entry("large", this::large));

  Conformance(String broker, String proxy) {
    super(broker, proxy);
  }

  private void create(JsonObject given, JsonObject expect) throws Exception {
    var wish = given.getAsJsonObject("request");
    var name = wish.get("product").getAsString();
    var request = request(name, wish.get("partitions").getAsInt(), wish.get("description").getAsString(),
        wish.get("team").getAsString(), wish.get("contact").getAsString());
    var product = catalog.createProduct(request).getProduct();
    same("name", product.getName(), name);
    same("description", product.getDescription(), wish.get("description").getAsString());
    same("partitions", product.getPartitions(), expect.get("partitions").getAsInt());
    same("schema version", product.getSchemaVersion(), expect.get("schema_version").getAsInt());
    same("state", product.getState().name(), expect.get("state").getAsString());
    var found = catalog.getProduct(GetProductRequest.newBuilder().setName(name).build()).getProduct();
    same("product read back", found.getId(), product.getId());
    checkFailure(expect.getAsJsonObject("again"), () -> catalog.createProduct(request));
  }

  private void split(JsonObject given, JsonObject expect) {
    var product = product(given);
    var keys = strings(given.get("keys"));
    var request = append(product, keys);
    for (int index = 0; index < keys.size(); index++) {
      request.getBatchBuilder().getRecordsBuilder(index).setKey(ByteString.copyFromUtf8(keys.get(index)));
    }
    var answer = records.append(request.build());
    var partitions = integers(expect.get("record_partitions"));
    same("partitions of the records", answer.getRecordPartitionsList(), partitions);
    same("counts", answer.getRangesList().stream().map(AppendedRange::getCount).toList(), integers(expect.get("counts")));
    for (var range : answer.getRangesList()) {
      int partition = range.getPartition();
      same("first offset", range.getFirstOffset(), 0L);
      var found = records.read(ReadRequest.newBuilder().setProduct(product).addPartitions(partition).build());
      var here = IntStream.range(0, keys.size()).filter(at -> partitions.get(at) == partition).mapToObj(keys::get);
      same("partition " + partition, recordsOf(found.getBatchesList()), numberedPairs(here.toList()));
    }
  }

  private void readFrom(JsonObject given, JsonObject expect) {
    var product = product(given);
    records.append(append(product, strings(given.get("values"))).build());
    var start = startAt(Long.parseUnsignedLong(given.get("offset").getAsString()));
    var found = records.read(ReadRequest.newBuilder().setProduct(product).setStart(start).build());
    var batch = found.getBatches(0);
    same("base offset", Long.toUnsignedString(batch.getBaseOffset()), expect.get("base_offset").getAsString());
    same("count", batch.getCount(), expect.get("count").getAsInt());
    same("skip", batch.getSkip(), expect.get("skip").getAsInt());
    same("records", recordsOf(found.getBatchesList()), pairs(expect.get("records")));
    same("next offset", nextOffsets(found.getPartitionsList()), List.of(expect.get("next_offset").getAsString()));
  }

  private void decode(JsonObject given, JsonObject expect) throws Exception {
    var hex = HexFormat.of();
    var message = ReadResponse.parseFrom(hex.parseHex(given.get("read_response").getAsString()));
    same("records", recordsOf(message.getBatchesList()), pairs(expect.get("records")));
    same("next offsets", nextOffsets(message.getPartitionsList()), strings(expect.get("next_offsets")));
    var positions = startAt(message.getPartitionsList()).getPositions();
    same("positions", hex.formatHex(positions.toByteArray()), expect.get("positions").getAsString());
  }

  private void compact(JsonObject given, JsonObject expect) throws Exception {
    var product = product(given, ProductSettings.newBuilder().setCompaction(Compaction.getDefaultInstance()).build());
    var values = numbered(given.get("records").getAsInt(), given.get("value_bytes").getAsInt());
    var all = numberedPairs(values);
    int step = given.get("records_per_batch").getAsInt();
    for (int first = 0; first < values.size(); first += step) {
      var request = append(product, values.subList(first, first + step));
      for (int index = 0; index < step; index++) {
        // Some keys come once, so of each batch something is left.
        boolean isOwn = (first + index) % given.get("own_key_every").getAsInt() == 0;
        var key = isOwn ? "own " + (first + index) : "key " + index;
        request.getBatchBuilder().getRecordsBuilder(index).setKey(ByteString.copyFromUtf8(key));
      }
      records.append(request.build());
    }
    long begun = System.nanoTime();
    var found = readAll(product, 0);
    for (; found.size() > expect.get("most_records").getAsInt(); found = readAll(product, 0)) {
      same("compacted in time",
          System.nanoTime() - begun < expect.get("within_seconds").getAsLong() * 1_000_000_000, true);
      Thread.sleep(200);
    }
    checkLeft(found, all, step);
    long begin = given.get("trim_before").getAsLong();
    var trimmed = admin.trimProduct(TrimProductRequest.newBuilder()
        .setProduct(product).setBeforeOffsets(startAt(begin).getPositions()).build());
    same("start offset", trimmed.getPartitions(0).getStartOffset(), begin);
    checkFailure(expect.getAsJsonObject("late"), () -> readAll(product, 0));
    var left = readAll(product, begin);
    checkLeft(left, all, step);
    same("nothing before the trim", Long.parseLong(left.get(0).offset()) >= begin, true);
  }

  /** Each record is the one that always had its offset, and the newest of each key are there. */
  private static void checkLeft(List<Pair> found, List<Pair> all, int keys) {
    same("records", found, found.stream().map(one -> all.get(Integer.parseInt(one.offset()))).toList());
    same("the newest of each key", found.subList(found.size() - keys, found.size()),
        all.subList(all.size() - keys, all.size()));
  }

  private void follow(JsonObject given, JsonObject expect) {
    var product = product(given);
    var before = strings(given.get("before"));
    records.append(append(product, before).build());
    var live = new ArrayDeque<>(strings(given.get("live")));
    var expected = pairs(expect.get("records"));
    var found = new ArrayList<Pair>();
    subscribe(subscriptions, SubscribeRequest.newBuilder().setProduct(product), message -> {
      found.addAll(recordsOf(message.getBatchesList()));
      if (found.size() >= before.size() && !live.isEmpty()) {
        records.append(append(product, List.of(live.remove())).build());
      }
      return found.size() < expected.size();
    });
    same("records", found, expected);
  }

  private void resume(JsonObject given, JsonObject expect) {
    var product = product(given);
    var values = numbered(expect.get("record_count").getAsInt(), given.get("value_bytes").getAsInt());
    int step = given.get("records_per_batch").getAsInt();
    for (int first = 0; first < values.size(); first += step) {
      records.append(append(product, values.subList(first, first + step)).build());
    }
    var cutting = connect(proxy).build();
    var found = new ArrayList<Pair>();
    var position = new ArrayList<PartitionState>(); // one partition, so the newest state is the whole position
    int cuts = 0;
    while (found.size() < values.size()) {
      var request = SubscribeRequest.newBuilder().setProduct(product).setStart(startAt(position));
      try {
        subscribe(cutting, request.setMaxBytes(given.get("max_bytes").getAsInt()), message -> {
          found.addAll(recordsOf(message.getBatchesList()));
          position.clear();
          position.addAll(message.getPartitionsList());
          return found.size() < values.size();
        });
      } catch (StatusRuntimeException error) {
        same("code of a cut", error.getStatus().getCode().name(), expect.get("code").getAsString());
        cuts++;
      }
    }
    cutting.shutdownNow();
    same("records", found, numberedPairs(values));
    same("enough cuts", cuts >= expect.get("least_cuts").getAsInt(), true);
  }

  private void idle(JsonObject given, JsonObject expect) {
    var request = SubscribeRequest.newBuilder()
        .setProduct(product(given))
        .setStart(Start.newBuilder().setEdge(StartEdge.START_EDGE_LATEST))
        .setHeartbeatInterval(Duration.newBuilder().setSeconds(given.get("interval_seconds").getAsLong()));
    long begun = System.nanoTime();
    int[] messages = {0};
    subscribe(subscriptions, request, message -> {
      same("batches", message.getBatchesCount(), 0);
      same("next offsets", nextOffsets(message.getPartitionsList()), strings(expect.get("next_offsets")));
      return ++messages[0] < 1 + expect.get("heartbeats").getAsInt(); // the first resolves the positions
    });
    same("in time", System.nanoTime() - begun < expect.get("within_seconds").getAsLong() * 1_000_000_000, true);
  }

  private void fail(JsonObject given, JsonObject ignored) throws Exception {
    product(given);
    for (var element : given.getAsJsonArray("calls")) {
      var call = element.getAsJsonObject();
      checkFailure(call.getAsJsonObject("expect"), () -> {
        if (call.has("read")) {
          var start = startAt(call.get("offset").getAsLong());
          records.read(ReadRequest.newBuilder().setProduct(call.get("read").getAsString()).setStart(start).build());
        } else {
          records.append(append(call.get("append").getAsString(), List.of("x")).build());
        }
      });
    }
  }

  private void retry(JsonObject given, JsonObject expect) throws Exception {
    var product = product(given);
    var producer = producer();
    var sequences = strings(given.get("sequences"));
    for (int index = 0; index < sequences.size(); index++) {
      var answer = expect.getAsJsonArray("answers").get(index).getAsJsonObject();
      producer.setSequence(Long.parseUnsignedLong(sequences.get(index)));
      var request = append(product, List.of("batch " + sequences.get(index))).setProducer(producer).build();
      if (answer.has("reason")) {
        checkFailure(answer, () -> records.append(request));
      } else {
        var found = records.append(request);
        same("first offset", Long.toUnsignedString(found.getRanges(0).getFirstOffset()),
            answer.get("first_offset").getAsString());
        same("duplicate", found.getDuplicate(), answer.get("duplicate").getAsBoolean());
      }
    }
    checkEnd(product, expect);
  }

  private void retryByConfig(JsonObject given, JsonObject expect) {
    var product = product(given);
    @SuppressWarnings("unchecked") // grpc-java takes a service config as maps, lists, strings and doubles
    Map<String, ?> config = new Gson().fromJson(given.get("service_config"), Map.class);
    var cutting = connect(proxy).defaultServiceConfig(config).enableRetry().build();
    var stub = RecordServiceGrpc.newBlockingStub(cutting);
    var producer = producer();
    var values = numbered(given.get("appends").getAsInt(), given.get("value_bytes").getAsInt());
    for (int sequence = 0; sequence < values.size(); sequence++) {
      var request = append(product, List.of(values.get(sequence)));
      stub.append(request.setProducer(producer.setSequence(sequence)).build());
    }
    cutting.shutdownNow();
    checkEnd(product, expect);
  }

  private void large(JsonObject given, JsonObject expect) {
    var product = product(given);
    var values = numbered(given.get("records").getAsInt(), given.get("value_bytes").getAsInt());
    var request = append(product, values).build();
    same("large request", request.getSerializedSize() >= expect.get("least_request_bytes").getAsInt(), true);
    records.append(request);
    var found = new ArrayList<Pair>();
    long offset = 0;
    int responses = 0;
    for (; found.size() < values.size(); responses++) {
      var answer = records.read(ReadRequest.newBuilder()
          .setProduct(product).setStart(startAt(offset)).setMaxBytes(given.get("max_bytes").getAsInt()).build());
      same("small response", answer.getSerializedSize() < expect.get("response_bytes_below").getAsInt(), true);
      found.addAll(recordsOf(answer.getBatchesList()));
      offset = answer.getPartitions(0).getNextOffset();
    }
    same("records", found, numberedPairs(values));
    same("enough responses", responses >= expect.get("least_responses").getAsInt(), true);
  }

  public static void main(String[] arguments) throws Exception {
    var file = JsonParser.parseString(Files.readString(Path.of(arguments[0]), StandardCharsets.UTF_8));
    var program = new Conformance(arguments[1], arguments[2]);
    boolean failed = false;
    for (var element : file.getAsJsonObject().getAsJsonArray("scenarios")) {
      var scenario = element.getAsJsonObject();
      var name = scenario.get("name").getAsString();
      try {
        var action = program.actions.get(scenario.get("action").getAsString());
        if (action == null) throw new AssertionError("this program does not know the action " + scenario.get("action"));
        action.run(scenario, scenario.getAsJsonObject("expect"));
        System.out.println("ok " + name);
      } catch (Exception | AssertionError error) {
        failed = true;
        System.out.printf("FAILED %s: %.500s%n", name, error.toString().replaceAll("\\s+", " "));
      }
    }
    program.channel.shutdownNow();
    program.subscriptions.shutdownNow();
    System.exit(failed ? 1 : 0);
  }
}
