package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fetch sends the ranged GETs of a list, as /_/ranges gives it, over so many connections, each with one request at a time, and does
// nothing with the answers. It prints requests a second, seconds, requests and bytes.
func fetch(address, bucket, connections string) {
	count, err := strconv.Atoi(connections)
	if err != nil || count < 1 {
		fail("not a number of connections: " + connections)
	}
	var wanted []string
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		key, header, _ := strings.Cut(lines.Text(), "\t")
		path := (&url.URL{Path: "/" + bucket + "/" + key}).EscapedPath()
		if header != "" {
			header = "Range: " + header + "\r\n"
		}
		wanted = append(wanted, "GET "+path+" HTTP/1.1\r\nHost: "+address+"\r\n"+header+"\r\n")
	}
	var next, bytes atomic.Int64
	var workers sync.WaitGroup
	begun := time.Now()
	for range count {
		workers.Go(func() {
			connection, err := net.Dial("tcp", address)
			if err != nil {
				fail(err)
			}
			defer connection.Close()
			reader := bufio.NewReaderSize(connection, 64<<10)
			for at := next.Add(1) - 1; at < int64(len(wanted)); at = next.Add(1) - 1 {
				if _, err := io.WriteString(connection, wanted[at]); err != nil {
					fail(err)
				}
				answer, err := http.ReadResponse(reader, nil)
				if err != nil {
					fail(err)
				}
				length, err := io.Copy(io.Discard, answer.Body)
				if err != nil || answer.StatusCode >= 500 {
					fail(fmt.Sprint("an answer with status ", answer.StatusCode, ": ", err))
				}
				bytes.Add(length)
			}
		})
	}
	workers.Wait()
	seconds := time.Since(begun).Seconds()
	fmt.Printf("%.1f %.3f %d %d\n", float64(len(wanted))/seconds, seconds, len(wanted), bytes.Load())
}
