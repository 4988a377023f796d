package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type server struct {
	logs        *logs
	domain      string
	conditional string
	delay       atomic.Int64
	faults      atomic.Pointer[faults]
	counters
}

// Shares of requests, and of keys.
type faults struct {
	// 500, 503, an answer that never comes, a body that ends early.
	Errors, Slow, Hang, Short float64
	// Keys of logs that are refused with 403, always the same.
	Denied float64
	// Only these requests: LIST, GET, HEAD, PUT; all if empty.
	Only string
	// Only keys that begin so are denied.
	Below string
	// Ends the answers that hang.
	over context.Context
	end  context.CancelFunc
}

type counters struct {
	kinds                            [5]atomic.Int64
	bytes, faulty, now, most, hidden atomic.Int64
	lock                             sync.Mutex
	// GETs of each log.
	gets []atomic.Int32
	// One line for each ranged GET, if that is wanted.
	record bool
	ranges []string
}

const (
	listKind = iota
	getKind
	headKind
	putKind
	otherKind
)

var kindNames = [5]string{"LIST", "GET", "HEAD", "PUT", "OTHER"}

func (s *server) ServeHTTP(answer http.ResponseWriter, request *http.Request) {
	if strings.HasPrefix(request.URL.Path, "/_/") {
		s.control(answer, request)
		return
	}
	bucket, key := s.target(request)
	kind := otherKind
	query := request.URL.Query()
	switch {
	case request.Method == http.MethodGet && key == "":
		kind = listKind
	case request.Method == http.MethodGet:
		kind = getKind
	case request.Method == http.MethodHead:
		kind = headKind
	case request.Method == http.MethodPut:
		kind = putKind
	}
	s.kinds[kind].Add(1)
	for now, most := s.now.Add(1), s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
	}
	defer s.now.Add(-1)
	if delay := s.delay.Load(); delay > 0 {
		time.Sleep(time.Duration(delay))
	}
	answer.Header().Set("x-amz-request-id", "MANYLOGS")
	cut := false
	if faults := s.faults.Load(); faults != nil && (faults.Only == "" || strings.Contains(faults.Only, kindNames[kind])) {
		if hash := mixed(hashOf(key)); faults.Denied > 0 && key != "" && strings.HasPrefix(key, faults.Below) && float64(hash%1_000_000) < faults.Denied*1_000_000 {
			s.faulty.Add(1)
			refuse(answer, http.StatusForbidden, "AccessDenied", "Access Denied")
			return
		}
		switch chance := rand.Float64(); {
		case chance < faults.Errors:
			s.faulty.Add(1)
			refuse(answer, http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
			return
		case chance < faults.Errors+faults.Slow:
			s.faulty.Add(1)
			refuse(answer, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
			return
		case chance < faults.Errors+faults.Slow+faults.Hang:
			s.faulty.Add(1)
			select {
			case <-request.Context().Done():
			case <-faults.over.Done():
			}
			panic(http.ErrAbortHandler)
		case chance < faults.Errors+faults.Slow+faults.Hang+faults.Short:
			s.faulty.Add(1)
			cut = true
		}
	}
	switch {
	case kind == listKind && query.Has("location"):
		xmlAnswer(answer, `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">eu-west-3</LocationConstraint>`, cut)
	case kind == listKind:
		s.list(answer, bucket, query, cut)
	case kind == headKind && key == "":
		answer.Header().Set("x-amz-bucket-region", "eu-west-3")
	case kind == getKind || kind == headKind:
		s.get(answer, request, key, cut)
	case kind == putKind:
		s.put(answer, request, key)
	case request.Method == http.MethodDelete:
		s.remove(key)
		answer.WriteHeader(http.StatusNoContent)
	case request.Method == http.MethodPost && query.Has("delete"):
		s.removeAll(answer, request)
	default:
		refuse(answer, http.StatusNotImplemented, "NotImplemented", "This stand-in does not know the request.")
	}
}

func hashOf(text string) (hash uint64) {
	for i := range len(text) {
		hash = hash*1099511628211 ^ uint64(text[i])
	}
	return hash
}

func (s *server) target(request *http.Request) (bucket, key string) {
	host := request.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	path := strings.TrimPrefix(request.URL.Path, "/")
	if bucket, below := strings.CutSuffix(host, "."+s.domain); below {
		return bucket, path
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

func refuse(answer http.ResponseWriter, status int, code, message string) {
	answer.Header().Set("Content-Type", "application/xml")
	answer.WriteHeader(status)
	fmt.Fprintf(answer, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>%s</Message><RequestId>MANYLOGS</RequestId></Error>`, code, message)
}

func xmlAnswer(answer http.ResponseWriter, text string, cut bool) {
	text = `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + text
	answer.Header().Set("Content-Type", "application/xml")
	answer.Header().Set("Content-Length", strconv.Itoa(len(text)))
	if cut {
		text = text[:len(text)/2]
	}
	_, _ = io.WriteString(answer, text)
	if cut {
		panic(http.ErrAbortHandler)
	}
}

func (s *server) list(answer http.ResponseWriter, bucket string, query url.Values, cut bool) {
	prefix, delimiter := query.Get("prefix"), query.Get("delimiter")
	most := 1000
	if wanted := query.Get("max-keys"); wanted != "" {
		number, err := strconv.Atoi(wanted)
		if err != nil || number < 0 {
			refuse(answer, http.StatusBadRequest, "InvalidArgument", "max-keys")
			return
		}
		most = min(most, number)
	}
	encoded := query.Get("encoding-type") == "url"
	written := func(text string) string {
		if encoded {
			return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(text), "%2F", "/"), "+", "%20")
		}
		if !strings.ContainsAny(text, "<>&\"'\r\n\t") {
			return text
		}
		var out strings.Builder
		_ = xml.EscapeText(&out, []byte(text))
		return out.String()
	}
	// A token is the last key or common prefix that was sent, with a letter before it.
	after := query.Get("start-after")
	if query.Get("list-type") != "2" {
		after = query.Get("marker")
	}
	if token := query.Get("continuation-token"); token != "" {
		if token[0] != 't' {
			refuse(answer, http.StatusBadRequest, "InvalidArgument", "The continuation token provided is incorrect")
			return
		}
		after = token[1:]
	}
	var objects, prefixes bytes.Buffer
	count, last, more := 0, after, false

	s.logs.lock.RLock()
	cursor := &cursor{logs: s.logs}
	cursor.seek(max(prefix, after))
	for most > 0 {
		key, found := cursor.key()
		if !found || !strings.HasPrefix(key, prefix) {
			break
		}
		common := ""
		if delimiter != "" {
			if at := strings.Index(key[len(prefix):], delimiter); at >= 0 {
				common = key[:len(prefix)+at+len(delimiter)]
			}
		}
		if common == "" && key <= after {
			cursor.next()
			continue
		}
		if common == "" || common > after {
			if count == most {
				more = true
				break
			}
			count++
		}
		if common == "" {
			item := cursor.next()
			last = key
			objects.WriteString("<Contents><Key>")
			objects.WriteString(written(key))
			objects.WriteString("</Key><LastModified>")
			objects.WriteString(time.UnixMilli(item.modified).UTC().Format("2006-01-02T15:04:05.000Z"))
			objects.WriteString("</LastModified><ETag>&quot;")
			objects.WriteString(item.etag)
			objects.WriteString("&quot;</ETag><Size>")
			objects.WriteString(strconv.FormatInt(item.size, 10))
			objects.WriteString("</Size><StorageClass>STANDARD</StorageClass></Contents>")
			continue
		}
		if common > after {
			last = common
			prefixes.WriteString("<CommonPrefixes><Prefix>")
			prefixes.WriteString(written(common))
			prefixes.WriteString("</Prefix></CommonPrefixes>")
		}
		// The first text after all that begin with the common prefix.
		cursor.seek(common[:len(common)-1] + string(common[len(common)-1]+1))
	}
	s.logs.lock.RUnlock()

	var out strings.Builder
	fmt.Fprintf(&out, `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>%s</Name><Prefix>%s</Prefix><MaxKeys>%d</MaxKeys><KeyCount>%d</KeyCount><IsTruncated>%t</IsTruncated>`,
		bucket, written(prefix), most, count, more)
	if delimiter != "" {
		fmt.Fprintf(&out, "<Delimiter>%s</Delimiter>", written(delimiter))
	}
	if encoded {
		out.WriteString("<EncodingType>url</EncodingType>")
	}
	if more {
		var token strings.Builder
		_ = xml.EscapeText(&token, []byte("t"+last))
		fmt.Fprintf(&out, "<NextContinuationToken>%s</NextContinuationToken><NextMarker>%s</NextMarker>", &token, written(last))
	}
	out.Write(objects.Bytes())
	out.Write(prefixes.Bytes())
	out.WriteString("</ListBucketResult>")
	s.bytes.Add(int64(out.Len()))
	xmlAnswer(answer, out.String(), cut)
}

// bounds are the first byte and the one after the last, of a header such as bytes=0-99, bytes=100- or bytes=-100.
func bounds(header string, size int64) (from, to int64, ranged, possible bool) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	first, last, dash := strings.Cut(spec, "-")
	if !ok || !dash {
		return 0, size, false, true
	}
	begin, noBegin := strconv.ParseInt(first, 10, 64)
	end, noEnd := strconv.ParseInt(last, 10, 64)
	switch {
	case first == "" && noEnd == nil:
		return max(0, size-end), size, true, size > 0 && end > 0
	case noBegin != nil || last != "" && (noEnd != nil || end < begin):
		return 0, size, false, true
	case last == "":
		end = size - 1
	}
	return begin, min(size, end+1), true, begin < size
}

func (s *server) get(answer http.ResponseWriter, request *http.Request, key string, cut bool) {
	s.logs.lock.RLock()
	item, found := s.logs.get(key)
	var pieces []piece
	if found && item.object != nil {
		pieces = []piece{{item.object.data, 1}}
	} else if found {
		pieces = s.logs.pieces(&s.logs.all[item.log], item.number)
	}
	s.logs.lock.RUnlock()
	if !found {
		refuse(answer, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
		return
	}
	headers := answer.Header()
	headers.Set("ETag", `"`+item.etag+`"`)
	headers.Set("Last-Modified", time.UnixMilli(item.modified).UTC().Format(http.TimeFormat))
	headers.Set("Accept-Ranges", "bytes")
	headers.Set("Content-Type", "binary/octet-stream")
	if wanted := request.Header.Get("If-Match"); wanted != "" && strings.Trim(wanted, `"`) != item.etag && wanted != "*" {
		refuse(answer, http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
		return
	}
	if known := request.Header.Get("If-None-Match"); known != "" && strings.Trim(known, `"`) == item.etag {
		answer.WriteHeader(http.StatusNotModified)
		return
	}
	from, to, ranged, possible := bounds(request.Header.Get("Range"), item.size)
	if request.Method == http.MethodGet && item.object == nil {
		s.count(item, request.Header.Get("Range"))
	}
	if !possible {
		headers.Set("Content-Range", fmt.Sprintf("bytes */%d", item.size))
		refuse(answer, http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range is not satisfiable")
		return
	}
	headers.Set("Content-Length", strconv.FormatInt(to-from, 10))
	if ranged {
		headers.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to-1, item.size))
		answer.WriteHeader(http.StatusPartialContent)
	}
	if request.Method == http.MethodHead {
		return
	}
	if cut {
		to = from + (to-from)/2
	}
	s.bytes.Add(send(answer, pieces, from, to))
	if cut {
		panic(http.ErrAbortHandler)
	}
}

func send(out io.Writer, pieces []piece, from, to int64) (sent int64) {
	begin := int64(0)
	for _, piece := range pieces {
		length := int64(len(piece.data))
		whole := length * piece.times
		for at := max(from-begin, 0); at < min(whole, to-begin); {
			offset := at % length
			part := piece.data[offset:min(length, offset+to-begin-at)]
			if _, err := out.Write(part); err != nil {
				return sent
			}
			at += int64(len(part))
			sent += int64(len(part))
		}
		begin += whole
	}
	return sent
}

// count notes a GET of a log.
func (s *server) count(item item, wanted string) {
	s.lock.Lock()
	defer s.lock.Unlock()
	if int(item.log) < len(s.gets) {
		s.gets[item.log].Add(1)
	}
	if s.record {
		s.ranges = append(s.ranges, item.key+"\t"+wanted)
	}
}

func (s *server) put(answer http.ResponseWriter, request *http.Request, key string) {
	data, err := body(request)
	if err != nil || key == "" {
		if key == "" && err == nil {
			return
		}
		refuse(answer, http.StatusBadRequest, "IncompleteBody", "The body is not as long as it should be.")
		return
	}
	match, none := request.Header.Get("If-Match"), request.Header.Get("If-None-Match")
	if (match != "" || none != "") && s.conditional == "refuse" {
		refuse(answer, http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented")
		return
	}
	s.logs.lock.Lock()
	defer s.logs.lock.Unlock()
	if s.conditional != "ignore" {
		before, found := s.logs.get(key)
		switch {
		case match != "" && !found:
			refuse(answer, http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
			return
		case none == "*" && found, match != "" && strings.Trim(match, `"`) != before.etag:
			refuse(answer, http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
			return
		}
	}
	etag := fmt.Sprintf("%x", md5.Sum(data))
	if _, known := s.logs.objects[key]; !known {
		at := sort.SearchStrings(s.logs.written, key)
		s.logs.written = slices.Insert(s.logs.written, at, key)
	}
	s.logs.objects[key] = &object{data, etag, time.Now().UnixMilli()}
	answer.Header().Set("ETag", `"`+etag+`"`)
}

// body is what a PUT writes. With a checksum in a trailer it comes in chunks of their own kind.
func body(request *http.Request) ([]byte, error) {
	if !strings.HasPrefix(request.Header.Get("x-amz-content-sha256"), "STREAMING-") {
		return io.ReadAll(request.Body)
	}
	var data []byte
	reader := bufio.NewReader(request.Body)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return nil, err
		}
		length, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		size, err := strconv.ParseInt(length, 16, 63)
		if err != nil {
			return nil, err
		}
		if size == 0 {
			_, err := io.Copy(io.Discard, reader)
			return data, err
		}
		chunk := make([]byte, size+2)
		if _, err := io.ReadFull(reader, chunk); err != nil {
			return nil, err
		}
		data = append(data, chunk[:size]...)
	}
}

func (s *server) remove(key string) {
	s.logs.lock.Lock()
	defer s.logs.lock.Unlock()
	if _, written := s.logs.objects[key]; written {
		delete(s.logs.objects, key)
		at := sort.SearchStrings(s.logs.written, key)
		s.logs.written = slices.Delete(s.logs.written, at, at+1)
		return
	}
	if at, found := s.logs.find(key); found {
		s.logs.all[s.logs.places[at].log].state = deleted
		s.logs.places = slices.Delete(s.logs.places, at, at+1)
	}
}

func (s *server) removeAll(answer http.ResponseWriter, request *http.Request) {
	var wanted struct {
		Object []struct{ Key string }
	}
	if err := xml.NewDecoder(request.Body).Decode(&wanted); err != nil {
		refuse(answer, http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed")
		return
	}
	for _, one := range wanted.Object {
		s.remove(one.Key)
	}
	xmlAnswer(answer, `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>`, false)
}
