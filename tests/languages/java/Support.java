import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.protobuf.ByteString;
import com.google.rpc.ErrorInfo;
import dev.meshlog.v1.*;
import io.grpc.*;
import io.grpc.protobuf.StatusProto;
import java.nio.ByteBuffer;
import java.util.*;
import java.util.function.Predicate;
import java.util.stream.*;

/** What the scenarios share: connections, requests, and how answers and errors are read. */
class Support {
  /** Offset and value of a record; a tombstone has no value. */
  record Pair(String offset, String value) {}

  final String proxy;
  final ManagedChannel channel;
  // A subscription has a connection of its own: in Java every channel does.
  final ManagedChannel subscriptions;
  final AdminServiceGrpc.AdminServiceBlockingStub admin;
  final CatalogServiceGrpc.CatalogServiceBlockingStub catalog;
  final RecordServiceGrpc.RecordServiceBlockingStub records;

  Support(String broker, String proxy) {
    this.proxy = proxy;
    channel = connect(broker).build();
    subscriptions = connect(broker).build();
    admin = AdminServiceGrpc.newBlockingStub(channel);
    catalog = CatalogServiceGrpc.newBlockingStub(channel);
    records = RecordServiceGrpc.newBlockingStub(channel);
  }

  static ManagedChannelBuilder<?> connect(String address) {
    return ManagedChannelBuilder.forTarget(address).usePlaintext();
  }

  static void same(String what, Object found, Object expected) {
    if (!Objects.equals(found, expected)) {
      throw new AssertionError("%s: expected %.200s, found %.200s".formatted(what, expected, found));
    }
  }

  static List<String> strings(JsonElement list) {
    return list.getAsJsonArray().asList().stream().map(JsonElement::getAsString).toList();
  }

  static List<Integer> integers(JsonElement list) {
    return list.getAsJsonArray().asList().stream().map(JsonElement::getAsInt).toList();
  }

  static List<Pair> pairs(JsonElement list) {
    return list.getAsJsonArray().asList().stream()
        .map(JsonElement::getAsJsonArray)
        .map(pair -> new Pair(pair.get(0).getAsString(), pair.get(1).isJsonNull() ? null : pair.get(1).getAsString()))
        .toList();
  }

  static CreateProductRequest request(
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
  String product(JsonObject given) {
    return product(given, ProductSettings.getDefaultInstance());
  }

  String product(JsonObject given, ProductSettings settings) {
    var name = given.get("product").getAsString();
    var partitions = given.has("partitions") ? given.get("partitions").getAsInt() : 1;
    var request = request(name, partitions, "Made by a scenario", "shop-team", "shop@example.org").toBuilder();
    request.getProductBuilder().setSettings(settings);
    catalog.createProduct(request.build());
    return name;
  }

  static AppendRequest.Builder append(String product, List<String> values) {
    var batch = RecordBatch.newBuilder();
    values.forEach(value -> batch.addRecords(dev.meshlog.v1.Record.newBuilder().setValue(ByteString.copyFromUtf8(value))));
    return AppendRequest.newBuilder().setProduct(product).setBatch(batch);
  }

  /** At these offsets; partitions not named start at the beginning. */
  static Start startAt(List<PartitionState> states) {
    var positions = Positions.newBuilder();
    states.forEach(state -> positions.addPositions(
        Position.newBuilder().setPartition(state.getPartition()).setOffset(state.getNextOffset())));
    return Start.newBuilder().setPositions(positions).build();
  }

  static Start startAt(long offset) {
    return startAt(List.of(PartitionState.newBuilder().setNextOffset(offset).build()));
  }

  /** The records of the batches of a ReadResponse or a SubscribeResponse. Offsets are unsigned, which long is not. */
  static List<Pair> recordsOf(List<StoredBatch> batches) {
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

  /** Everything from an offset to the durable end. */
  List<Pair> readAll(String product, long offset) {
    var found = new ArrayList<Pair>();
    while (true) {
      var answer = records.read(ReadRequest.newBuilder().setProduct(product).setStart(startAt(offset)).build());
      found.addAll(recordsOf(answer.getBatchesList()));
      offset = answer.getPartitions(0).getNextOffset();
      if (Long.compareUnsigned(offset, answer.getPartitions(0).getDurableEnd()) >= 0) return found;
    }
  }

  static List<String> nextOffsets(List<PartitionState> states) {
    return states.stream().map(state -> Long.toUnsignedString(state.getNextOffset())).toList();
  }

  static List<String> numbered(int count, int bytes) {
    return IntStream.range(0, count).mapToObj("%05d"::formatted).map(text -> text + ".".repeat(bytes - 5)).toList();
  }

  static List<Pair> numberedPairs(List<String> values) {
    return IntStream.range(0, values.size()).mapToObj(at -> new Pair(String.valueOf(at), values.get(at))).toList();
  }

  /** Compares the facts of a failed call, which must agree in status, details and plain trailers. */
  static void checkFailure(JsonObject expect, Runnable call) throws Exception {
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

  static String trailer(StatusRuntimeException failed, String name) {
    return failed.getTrailers().get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
  }

  /** Hands each message to {@code take} until it answers false. */
  static void subscribe(Channel channel, SubscribeRequest.Builder request, Predicate<SubscribeResponse> take) {
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

  /** Sixteen random bytes. */
  static Producer.Builder producer() {
    var id = UUID.randomUUID();
    var bytes = ByteBuffer.allocate(16).putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits());
    return Producer.newBuilder().setId(ByteString.copyFrom(bytes.flip()));
  }

  void checkEnd(String product, JsonObject expect) {
    var offsets = records.listOffsets(ListOffsetsRequest.newBuilder().setProduct(product).build());
    same("durable end", Long.toUnsignedString(offsets.getPartitions(0).getDurableEnd()),
        expect.get("next_offset").getAsString());
  }
}
