import dev.meshlog.v1.*;
import io.grpc.*;
import java.util.HashMap;
import java.util.Map;

/** Prints the greetings from the first one on, and then each new one until Ctrl-C. */
public class Consume {
  // By partition; a program that keeps these beside its results goes on there after a restart.
  private static final Map<Integer, Long> nextOffsets = new HashMap<>();

  public static void main(String[] arguments) throws InterruptedException {
    var address = System.getenv().getOrDefault("MESHLOG_SERVER", "127.0.0.1:7420");
    var channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
    var records = RecordServiceGrpc.newBlockingStub(channel);

    while (true) {
      var positions = Positions.newBuilder();
      nextOffsets.forEach((partition, offset) ->
          positions.addPositions(Position.newBuilder().setPartition(partition).setOffset(offset)));
      var request = SubscribeRequest.newBuilder()
          .setProduct("sandbox.greetings").setStart(Start.newBuilder().setPositions(positions)).build();
      try {
        records.subscribe(request).forEachRemaining(Consume::print);
      } catch (StatusRuntimeException error) {
        if (error.getStatus().getCode() != Status.Code.UNAVAILABLE) throw error;
        Thread.sleep(1000); // the broker is away; the positions are still right
      }
    }
  }

  private static void print(SubscribeResponse message) {
    for (var stored : message.getBatchesList()) {
      for (int index = stored.getSkip(); index < stored.getBatch().getRecordsCount(); index++) {
        int delta = stored.getOffsetDeltasCount() > 0 ? stored.getOffsetDeltas(index) : index;
        var offset = Long.toUnsignedString(stored.getBaseOffset() + delta);
        var record = stored.getBatch().getRecords(index);
        System.out.println(offset + " " + record.getKey().toStringUtf8() + " " + record.getValue().toStringUtf8());
      }
    }
    for (var state : message.getPartitionsList()) nextOffsets.put(state.getPartition(), state.getNextOffset());
  }
}
