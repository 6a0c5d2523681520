import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.rpc.ErrorInfo;
import dev.meshlog.v1.*;
import io.grpc.*;
import io.grpc.protobuf.StatusProto;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.function.Predicate;
import java.util.stream.*;

/**
 * The scenarios of scenarios.json in Java: {@code java Conformance.java SCENARIOS BROKER PROXY}.
 *
 * <p>Only generated stubs and grpc-java. Prints one line per scenario.
 */
public final class Conformance {
  /** A scenario: what it gives and expects. */
  interface Action {
    void run(JsonObject given, JsonObject expect) throws Exception;
  }

  /** Offset and value of a record; a tombstone has no value. */
  record Pair(String offset, String value) {}

  private final String proxy;
  private final ManagedChannel channel;
  private final CatalogServiceGrpc.CatalogServiceBlockingStub catalog;
  private final RecordServiceGrpc.RecordServiceBlockingStub records;

  // A subscription has a connection of its own: in Java every channel does.
  private final ManagedChannel subscriptions;

  private final Map<String, Action> actions = Map.ofEntries(
      Map.entry("create", this::create), Map.entry("split", this::split), Map.entry("read_from", this::readFrom),
      Map.entry("decode", this::decode), Map.entry("follow", this::follow), Map.entry("resume", this::resume),
      Map.entry("idle", this::idle), Map.entry("fail", this::fail), Map.entry("retry", this::retry),
      Map.entry("retry_by_config", this::retryByConfig), Map.entry("large", this::large));

  Conformance(String broker, String proxy) {
    this.proxy = proxy;
    channel = connect(broker).build();
    subscriptions = connect(broker).build();
    catalog = CatalogServiceGrpc.newBlockingStub(channel);
    records = RecordServiceGrpc.newBlockingStub(channel);
  }

  private static ManagedChannelBuilder<?> connect(String address) {
    return ManagedChannelBuilder.forTarget(address).usePlaintext();
  }

  private static void same(String what, Object found, Object expected) {
    if (!Objects.equals(found, expected)) {
      throw new AssertionError("%s: expected %.200s, found %.200s".formatted(what, expected, found));
    }
  }

  private static List<String> strings(JsonElement list) {
    return list.getAsJsonArray().asList().stream().map(JsonElement::getAsString).toList();
  }

  private static List<Integer> integers(JsonElement list) {
    return list.getAsJsonArray().asList().stream().map(JsonElement::getAsInt).toList();
  }

  private static List<Pair> pairs(JsonElement list) {
    return list.getAsJsonArray().asList().stream()
        .map(JsonElement::getAsJsonArray)
        .map(pair -> new Pair(pair.get(0).getAsString(), pair.get(1).isJsonNull() ? null : pair.get(1).getAsString()))
        .toList();
  }

  private static CreateProductRequest request(
      String name, int partitions, String description, String team, String contact) {
    var domain = name.substring(0, name.indexOf('.'));
    return CreateProductRequest.newBuilder()
        .setProduct(Product.newBuilder()
            .setName(name).setOwner(team).setDescription(description).setPartitions(partitions)
            .setClassification(Classification.CLASSIFICATION_INTERNAL))
        .setValueSchema(SchemaSource.newBuilder()
            .setFormat(SchemaFormat.SCHEMA_FORMAT_OPAQUE).setMediaType("text/plain")
            .setReason("a scenario does not look inside"))
        .setNewDomain(Domain.newBuilder().setName(domain).setOwner(team).setDescription("Scenarios"))
        .setNewTeam(Team.newBuilder().setName(team).addContacts(contact))
        .build();
  }

  /** Creates the product of a scenario and answers its name. */
  private String product(JsonObject given) {
    var name = given.get("product").getAsString();
    var partitions = given.has("partitions") ? given.get("partitions").getAsInt() : 1;
    catalog.createProduct(request(name, partitions, "Made by a scenario", "shop-team", "shop@example.org"));
    return name;
  }

  private static AppendRequest.Builder append(String product, List<String> values) {
    var batch = RecordBatch.newBuilder();
    values.forEach(value -> batch.addRecords(dev.meshlog.v1.Record.newBuilder().setValue(ByteString.copyFromUtf8(value))));
    return AppendRequest.newBuilder().setProduct(product).setBatch(batch);
  }

  /** At these offsets; partitions not named start at the beginning. */
  private static Start startAt(List<PartitionState> states) {
    var positions = Positions.newBuilder();
    states.forEach(state -> positions.addPositions(
        Position.newBuilder().setPartition(state.getPartition()).setOffset(state.getNextOffset())));
    return Start.newBuilder().setPositions(positions).build();
  }

  private static Start startAt(long offset) {
    return startAt(List.of(PartitionState.newBuilder().setNextOffset(offset).build()));
  }

  /** The records of the batches of a ReadResponse or a SubscribeResponse. Offsets are unsigned, which long is not. */
  private static List<Pair> recordsOf(List<StoredBatch> batches) {
    var found = new ArrayList<Pair>();
    for (var batch : batches) {
      for (int index = batch.getSkip(); index < batch.getBatch().getRecordsCount(); index++) {
        var record = batch.getBatch().getRecords(index);
        long delta = batch.getOffsetDeltasCount() > 0 ? batch.getOffsetDeltas(index) : index;
        found.add(new Pair(
            Long.toUnsignedString(batch.getBaseOffset() + delta),
            record.hasValue() ? record.getValue().toStringUtf8() : null));
      }
    }
    return found;
  }

  private static List<String> nextOffsets(List<PartitionState> states) {
    return states.stream().map(state -> Long.toUnsignedString(state.getNextOffset())).toList();
  }

  private static List<String> numbered(int count, int bytes) {
    return IntStream.range(0, count).mapToObj("%05d"::formatted).map(text -> text + ".".repeat(bytes - 5)).toList();
  }

  private static List<Pair> numberedPairs(List<String> values) {
    return IntStream.range(0, values.size()).mapToObj(at -> new Pair(String.valueOf(at), values.get(at))).toList();
  }

  /** Compares the facts of a failed call, which must agree in status, details and plain trailers. */
  private static void checkFailure(JsonObject expect, Runnable call) throws Exception {
    StatusRuntimeException failed = null;
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      failed = error;
    }
    same("failed", failed != null, true);
    ErrorInfo info = null;
    for (var detail : StatusProto.fromThrowable(failed).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) info = detail.unpack(ErrorInfo.class);
    }
    same("code", failed.getStatus().getCode().name(), expect.get("code").getAsString());
    same("reason", info.getReason(), expect.get("reason").getAsString());
    same("domain", info.getDomain(), "meshlog");
    same("trailer meshlog-reason", trailer(failed, "meshlog-reason"), info.getReason());
    same("trailer meshlog-applied", trailer(failed, "meshlog-applied"), info.getMetadataOrThrow("applied"));
    if (expect.has("applied")) same("applied", info.getMetadataOrThrow("applied"), expect.get("applied").getAsString());
    if (!expect.has("metadata")) return;
    for (var fact : expect.getAsJsonObject("metadata").entrySet()) {
      same(fact.getKey(), info.getMetadataMap().get(fact.getKey()), fact.getValue().getAsString());
    }
  }

  private static String trailer(StatusRuntimeException failed, String name) {
    return failed.getTrailers().get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
  }

  /** Hands each message to {@code take} until it answers false. */
  private static void subscribe(Channel channel, SubscribeRequest.Builder request, Predicate<SubscribeResponse> take) {
    var context = Context.current().withCancellation();
    var before = context.attach();
    try {
      var messages = RecordServiceGrpc.newBlockingStub(channel).subscribe(request.build());
      while (messages.hasNext() && take.test(messages.next())) {}
    } finally {
      context.detach(before);
      context.cancel(null);
    }
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
    var values = numbered(expect.get("records").getAsInt(), given.get("value_bytes").getAsInt());
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

  /** Sixteen random bytes. */
  private static Producer.Builder producer() {
    var id = UUID.randomUUID();
    var bytes = ByteBuffer.allocate(16).putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits());
    return Producer.newBuilder().setId(ByteString.copyFrom(bytes.flip()));
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

  private void checkEnd(String product, JsonObject expect) {
    var offsets = records.listOffsets(ListOffsetsRequest.newBuilder().setProduct(product).build());
    same("durable end", Long.toUnsignedString(offsets.getPartitions(0).getDurableEnd()),
        expect.get("next_offset").getAsString());
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
