// Judges deliveries by the page's functions: a line of base64 fields in, true or false a line out.
package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var fields []string
		for _, field := range strings.Split(lines.Text(), "\t") {
			raw, _ := base64.StdEncoding.DecodeString(field)
			fields = append(fields, string(raw))
		}
		secret, signature, body := fields[1], fields[4], []byte(fields[6])
		now := float64(time.Now().UnixMilli()) / 1000
		if fields[5] != "" {
			now, _ = strconv.ParseFloat(fields[5], 64)
		}
		switch fields[0] {
		case "standard":
			fmt.Println(VerifyStandard(secret, fields[2], fields[3], signature, body, now))
		case "timestamped":
			fmt.Println(VerifyTimestamped(secret, signature, body, now))
		default:
			fmt.Println(VerifyBody(secret, signature, body))
		}
	}
}
