import com.google.protobuf.ByteString;
import dev.meshlog.v1.*;
import io.grpc.*;
import java.nio.ByteBuffer;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** Appends three greetings. */
public class Produce {
  public static void main(String[] arguments) {
    var address = System.getenv().getOrDefault("MESHLOG_SERVER", "127.0.0.1:7420");
    var channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();

    var product = Product.newBuilder().setName("sandbox.greetings");
    try {
      CatalogServiceGrpc.newBlockingStub(channel)
          .createProduct(CreateProductRequest.newBuilder().setProduct(product).build());
    } catch (StatusRuntimeException error) {
      if (error.getStatus().getCode() != Status.Code.ALREADY_EXISTS) throw error;
    }

    var batch = RecordBatch.newBuilder()
        .addRecords(greeting("en", "hello"))
        .addRecords(greeting("fr", "bonjour"))
        .addRecords(greeting("eo", "saluton"));
    // If the answer is lost, the same request can be sent again: the broker knows producer and sequence.
    var producer = Producer.newBuilder().setId(sixteenRandomBytes()).setSequence(0);
    var request = AppendRequest.newBuilder()
        .setProduct(product.getName()).setBatch(batch).setProducer(producer).build();

    var answer = RecordServiceGrpc.newBlockingStub(channel).withDeadlineAfter(10, TimeUnit.SECONDS).append(request);
    var appended = answer.getRanges(0);
    System.out.printf("appended %d records from offset %d%n", appended.getCount(), appended.getFirstOffset());
    channel.shutdownNow();
  }

  private static dev.meshlog.v1.Record greeting(String key, String greeting) {
    return dev.meshlog.v1.Record.newBuilder()
        .setKey(ByteString.copyFromUtf8(key))
        .setValue(ByteString.copyFromUtf8("{\"greeting\":\"" + greeting + "\"}"))
        .build();
  }

  private static ByteString sixteenRandomBytes() {
    var id = UUID.randomUUID();
    var bytes = ByteBuffer.allocate(16).putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits());
    return ByteString.copyFrom(bytes.flip());
  }
}
