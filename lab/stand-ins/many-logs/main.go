// many-logs is an S3 server whose buckets hold as many Spark event logs as wanted, made by a formula: no file lies on a disk.
// It does not check signatures, and every bucket holds the same.
//
//	many-logs serve FIXTURES [OPTION ...]                   serves until it is killed; -h lists the options
//	many-logs fetch ADDRESS BUCKET CONNECTIONS < RANGES     sends nothing but the ranged GETs of the list, and prints their rate
//
// FIXTURES is tests/fixtures/yarn/eventlogs. Objects that a client writes are kept in memory.
// Paths below /_/ control the server; control.go lists them.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

func main() {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "serve":
			serve(os.Args[2], os.Args[3:])
			return
		case "fetch":
			if len(os.Args) == 5 {
				fetch(os.Args[2], os.Args[3], os.Args[4])
				return
			}
		}
	}
	fail("many-logs serve FIXTURES [OPTION ...] | many-logs fetch ADDRESS BUCKET CONNECTIONS < RANGES")
}

func serve(fixtures string, arguments []string) {
	options := flag.NewFlagSet("serve", flag.ExitOnError)
	address := options.String("listen", "127.0.0.1:7080", "address and port")
	domain := options.String("domain", "s3.test", "a host below this one names a bucket")
	flat := options.Int("flat", 0, "logs directly below flat/")
	month := options.Int("month", 0, "logs below month/2026-11/ and so on")
	serverless := options.Int("serverless", 0, "jobs below serverless/applications/, as EMR Serverless keeps them")
	rolling := options.Int("rolling", 40, "how many of 100 logs roll (those of Serverless all do)")
	codecs := options.String("codecs", "none=40,zstd=45,lz4=15", "shares of codecs; also snappy, lzf")
	sizes := options.String("sizes", "mixed", "mixed: 110 KB to 40 MB; fixture: as the fixtures; small: some 700 bytes")
	days := options.Int("days", 120, "over how many days the applications spread")
	now := options.Int64("now", time.Now().UnixMilli(), "when the last of them ends, in milliseconds")
	delay := options.Duration("delay", 0, "the time until the first byte of each answer")
	conditional := options.String("conditional", "yes", "conditional writes: yes; refuse: answer 501; ignore: write anyway")
	_ = options.Parse(arguments)

	made, err := newContents(fixtures, *codecs)
	if err != nil {
		fail(err)
	}
	logs := &logs{contents: made, rolling: *rolling, sizes: *sizes, now: *now, days: *days, objects: map[string]*object{}}
	logs.make(flatLayout, *flat)
	logs.make(monthLayout, *month)
	logs.make(serverlessLayout, *serverless)
	logs.sort()
	server := &server{logs: logs, domain: *domain, conditional: *conditional}
	server.delay.Store(int64(*delay))
	server.reset()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		fail(err)
	}
	fmt.Printf("%d logs at http://%s\n", len(logs.all), listener.Addr())
	fail((&http.Server{Handler: server}).Serve(listener))
}

func fail(what any) {
	fmt.Fprintln(os.Stderr, "many-logs:", what)
	os.Exit(1)
}
