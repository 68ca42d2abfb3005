import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.Base64;
import java.util.Scanner;

/** Judges deliveries by the page's functions: a line of base64 fields in, true or false a line out. */
final class Judge {
    public static void main(String[] arguments) throws Exception {
        Scanner lines = new Scanner(System.in, UTF_8);
        while (lines.hasNextLine()) {
            String[] fields = lines.nextLine().split("\t", -1);
            String[] texts = new String[6];
            for (int place = 0; place < texts.length; place++) {
                texts[place] = new String(Base64.getDecoder().decode(fields[place]), UTF_8);
            }
            byte[] body = Base64.getDecoder().decode(fields[6]);
            double now = texts[5].isEmpty() ? System.currentTimeMillis() / 1000.0 : Double.parseDouble(texts[5]);
            System.out.println(switch (texts[0]) {
                case "standard" -> Signatures.verifyStandard(texts[1], texts[2], texts[3], texts[4], body, now);
                case "timestamped" -> Signatures.verifyTimestamped(texts[1], texts[4], body, now);
                default -> Signatures.verifyBody(texts[1], texts[4], body);
            });
        }
    }
}
