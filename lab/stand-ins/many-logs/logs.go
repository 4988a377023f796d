package main

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

const (
	flatLayout = iota
	monthLayout
	serverlessLayout
)

const (
	complete = iota
	running
	// Its driver died: its log has no end, and nothing is written any more.
	killed
	deleted
)

// An entry is one log: an application's, or one attempt's. All that is not here follows from hash.
type entry struct {
	hash       uint64
	stamp      int64
	start, end int64
	// When a running one has written for the last time.
	wrote  int64
	number uint32
	// How often the events in the middle are repeated.
	repeats        uint32
	layout         uint8
	codec          uint8
	state          uint8
	attempt        uint8
	version, queue uint8
	// Files with events; 0 if the log does not roll. Of a compacted log the first that is left has this number, else 1.
	files, first uint8
}

type place struct {
	// A file's key, or a directory's with its slash.
	base string
	log  int32
}

type object struct {
	data     []byte
	etag     string
	modified int64
}

type logs struct {
	contents *contents
	rolling  int
	sizes    string
	now      int64
	days     int

	lock sync.RWMutex
	all  []entry
	// Where the logs lie, sorted.
	places []place
	// What clients have written, by key, and the sorted keys.
	objects map[string]*object
	written []string
	added   uint32
}

func mixed(number uint64) uint64 {
	number += 0x9e3779b97f4a7c15
	number = (number ^ number>>30) * 0xbf58476d1ce4e5b9
	number = (number ^ number>>27) * 0x94d049bb133111eb
	return number ^ number>>31
}

// of takes a number below limit from a hash. Different salts take independent ones.
func of(hash, salt uint64, limit int) int { return int(mixed(hash+salt) % uint64(limit)) }

// Clusters that live at the same time; of each: the number of its first application that is still there, and how many it had.
const lanes = 3

var clusters = [][2]int{{1, 300}, {9700, 1500}, {1, 40}, {1, 700}, {1, 5}, {1, 2500}}

// make spreads logs over the days before now. The last application of each lane's last cluster starts just before now.
func (l *logs) make(layout uint8, count int) {
	if count == 0 {
		return
	}
	span := int64(l.days) * 86400_000
	begin, before := l.now-span, len(l.all)
	// One in 33 has two logs.
	applications := float64(count) * 33 / 34
	if layout == serverlessLayout {
		applications = float64(count)
	}
	cluster, left := [lanes]int{}, [lanes]int{}
	var stamp [lanes]int64
	var number [lanes]uint32
	for lane := range lanes {
		cluster[lane] = lane - lanes
	}
	for i := range count {
		lane := i % lanes
		submitted := begin + int64(float64(span)*min(1, float64(i+1)/applications))
		if left[lane] == 0 {
			cluster[lane] += lanes
			shape := clusters[cluster[lane]%len(clusters)]
			left[lane] = shape[1]
			number[lane] = uint32(shape[0])
			stamp[lane] = submitted - 300_000 + int64(layout)*7 + int64(lane)
		}
		left[lane]--
		hash := mixed(uint64(stamp[lane])<<20 + uint64(number[lane]))
		attempt := uint8(0)
		switch {
		case layout == serverlessLayout:
		case retried(hash) && len(l.all)-before+2 <= count:
			first := l.append(layout, hash, stamp[lane], number[lane], 1, submitted-60_000)
			first.end, first.state = submitted-5_000, complete
			attempt = 2
		case of(hash, 1, 33) < 20:
			attempt = 1
		}
		l.append(layout, hash, stamp[lane], number[lane], attempt, submitted)
		number[lane]++
		if len(l.all)-before >= count {
			break
		}
	}
}

// retried says whether an application has two attempts.
func retried(hash uint64) bool { return of(hash, 1, 33) == 0 }

func (l *logs) append(layout uint8, hash uint64, stamp int64, number uint32, attempt uint8, start int64) *entry {
	// Most take minutes, few take hours.
	lasts := int64(20_000 + of(hash, 2, 600_000))
	if of(hash, 3, 20) == 0 {
		lasts = int64(of(hash, 4, 4*3600_000))
	}
	log := entry{hash: hash, stamp: stamp, number: number, attempt: attempt, layout: layout, start: start, end: start + lasts, first: 1}
	log.codec = l.contents.shares[of(hash, 5, len(l.contents.shares))]
	log.version = uint8(of(hash, 6, len(versions)-1))
	log.queue = uint8(of(hash, 7, len(queues)))
	switch kind := of(hash, 8, 100); {
	case l.sizes != "mixed" || kind < 40:
		log.repeats = 1
	case kind < 85:
		log.repeats = uint32(2 + of(hash, 9, 50))
	case kind < 99:
		log.repeats = uint32(50 + of(hash, 9, 250))
	default:
		log.repeats = uint32(300 + of(hash, 9, 1500))
	}
	if l.sizes == "small" {
		log.repeats = 0
	}
	if of(hash, 10, 100) < l.rolling || layout == serverlessLayout {
		log.files = 1
		if log.repeats > 3 && of(hash, 11, 4) == 0 {
			log.files = 3
			if of(hash, 12, 10) == 0 {
				log.files, log.first = 2, 2
			}
		}
	} else if of(hash, 13, 200) == 0 {
		log.version = uint8(len(versions) - 1)
		if log.codec == zstdFrames {
			log.codec = zstdOneFrame
		}
	}
	if log.end >= l.now {
		log.state, log.wrote = running, l.now
	} else if of(hash, 14, 150) == 0 {
		log.state = killed
	}
	l.all = append(l.all, log)
	return &l.all[len(l.all)-1]
}

func (e *entry) ended() bool { return e.state == complete }

func (e *entry) user() string {
	users := []string{"hadoop", "airflow", "livy", "etl-prod", "etl-staging", "dbt", "zeppelin", "jupyter", "bi-reports", "svc-finance"}
	if pick := of(e.hash, 20, 40); pick < len(users) {
		return users[pick]
	} else {
		return fmt.Sprintf("analyst%02d", pick)
	}
}

// name is nearly always one that no other application has, because schedulers put times and ids into it. Half of all have
// 'airflow' in it.
func (e *entry) name() string {
	hash := e.hash
	subjects := []string{"orders", "customers", "clickstream", "inventory", "payments", "sessions", "fraud_scores", "ledger", "shipments", "ads"}
	subject := subjects[of(hash, 21, len(subjects))]
	at := time.UnixMilli(e.start).UTC()
	if e.attempt == 1 && retried(hash) {
		at = at.Add(time.Minute)
	}
	switch kind := of(hash, 22, 1000); {
	case kind < 500:
		return fmt.Sprintf("airflow_%s_load.scheduled__%s__%016x", subject, at.Format("2006-01-02T15:04:05+00:00"), hash)
	case kind < 700:
		return fmt.Sprintf("livy-batch-%d-%016x", hash%1_000_000, mixed(hash))
	case kind < 800:
		return fmt.Sprintf("livy-session-%d", hash%100_000_000)
	case kind < 900:
		return fmt.Sprintf("dbt-%s-%s-%08x", subject, at.Format("20060102-150405"), uint32(hash))
	case kind < 950:
		return "nightly " + subject
	case kind < 970:
		return "Spark shell"
	case kind < 990:
		return fmt.Sprintf("com.example.jobs.%s.Main %s", subject, at.Format("2006-01-02"))
	case kind < 995:
		return fmt.Sprintf("Überweisungen für %s – 日次集計 %x", subject, uint16(hash))
	case kind < 998:
		return fmt.Sprintf(`<b>"%s"</b> & C:\jobs\%x 'x' %%41`, subject, uint16(hash))
	default:
		return strings.Repeat(subject+" joined with everything ", 12) + fmt.Sprint(hash)
	}
}

const letters = "0123456789abcdefghijklmnopqrstuvwxyz"

func jobID(hash uint64) string {
	id := []byte("00")
	for range 14 {
		id = append(id, letters[hash%36])
		hash = mixed(hash)
	}
	return string(id)
}

func (e *entry) id() string {
	if e.layout == serverlessLayout {
		return jobID(e.hash)
	}
	return fmt.Sprintf("application_%d_%04d", e.stamp, e.number)
}

// fileName is the id with the attempt, as in the names of files.
func (e *entry) fileName() string {
	if e.attempt == 0 || e.layout == serverlessLayout {
		return e.id()
	}
	return fmt.Sprintf("%s_%d", e.id(), e.attempt)
}

func (e *entry) base() string {
	prefix := "flat/"
	switch e.layout {
	case monthLayout:
		prefix = time.UnixMilli(e.start).UTC().Format("month/2006-01/")
	case serverlessLayout:
		return fmt.Sprintf("serverless/applications/%s/jobs/%s/", jobID(uint64(of(e.hash, 23, 12))), e.id())
	}
	if e.files > 0 {
		return prefix + "eventlog_v2_" + e.fileName() + "/"
	}
	name := prefix + e.fileName() + suffixes[e.codec]
	if !e.ended() {
		name += ".inprogress"
	}
	return name
}

// A file of a log. Its number is that of a file of events, 0 for the status, -1 for what is no part of the log.
type file struct {
	key    string
	number int
}

func (l *logs) files(at place) []file {
	e := &l.all[at.log]
	if e.files == 0 {
		return []file{{at.base, 1}}
	}
	name, base := e.fileName(), at.base
	list := make([]file, 0, 8)
	if e.layout == serverlessLayout {
		list = append(list, file{base + "SPARK_DRIVER/stderr.gz", -1}, file{base + "SPARK_DRIVER/stdout.gz", -1},
			file{base + "SPARK_EXECUTOR/1/stderr.gz", -1}, file{base + "SPARK_EXECUTOR/2/stderr.gz", -1})
		base += "sparklogs/eventlog_v2_" + name + "/"
	}
	status := base + "appstatus_" + name
	if !e.ended() {
		status += ".inprogress"
	}
	list = append(list, file{status, 0})
	for number := int(e.first); number < int(e.first)+int(e.files); number++ {
		key := fmt.Sprintf("%sevents_%d_%s%s", base, number, name, suffixes[e.codec])
		if number == int(e.first) && e.first > 1 {
			key += ".compact"
		}
		list = append(list, file{key, number})
	}
	return list
}

func (l *logs) pieces(log *entry, number int) []piece {
	switch number {
	case -1:
		return []piece{{[]byte("a log\n"), 1}}
	case 0:
		return nil
	}
	first, files := int(log.first), max(1, int(log.files))
	last := number == first+files-1
	repeats := int64(log.repeats) / int64(files)
	pieces := opening(log.codec)
	if number == first {
		pieces = l.contents.head(log, l.sizes)
	}
	if last {
		repeats += int64(log.repeats) % int64(files)
	}
	pieces = append(pieces, l.contents.events(log, repeats)...)
	if log.ended() || !last {
		pieces = append(pieces, closing(log, last)...)
	}
	return pieces
}

func size(pieces []piece) (size int64) {
	for _, piece := range pieces {
		size += int64(len(piece.data)) * piece.times
	}
	return size
}

func (l *logs) modified(log *entry, number int) int64 {
	first, files := int64(log.first), max(1, int64(log.files))
	end := log.end
	if log.state == running {
		end = log.wrote
	}
	if number > 0 && int64(number) < first+files-1 {
		return log.start + (end-log.start)*(int64(number)-first+1)/files
	}
	return end + 900
}

func (l *logs) etag(log *entry, number int, size int64) string {
	tag := mixed(log.hash + uint64(log.attempt)<<32 + uint64(number))
	return fmt.Sprintf("%016x%016x", tag, mixed(tag+uint64(size)+uint64(log.state)))
}

func (l *logs) sort() {
	l.places = make([]place, len(l.all))
	for i := range l.all {
		l.places[i] = place{l.all[i].base(), int32(i)}
	}
	slices.SortFunc(l.places, func(a, b place) int { return strings.Compare(a.base, b.base) })
}

func (l *logs) insert(log int32) {
	base := l.all[log].base()
	at := sort.Search(len(l.places), func(i int) bool { return l.places[i].base >= base })
	l.places = slices.Insert(l.places, at, place{base, log})
}

func (l *logs) take(log int32) {
	base := l.all[log].base()
	at := sort.Search(len(l.places), func(i int) bool { return l.places[i].base >= base })
	if at < len(l.places) && l.places[at].log == log {
		l.places = slices.Delete(l.places, at, at+1)
	}
}

// find is the place of the log that has this key, or would have it.
func (l *logs) find(key string) (int, bool) {
	after := sort.Search(len(l.places), func(i int) bool { return l.places[i].base > key })
	if after == 0 {
		return 0, false
	}
	base := l.places[after-1].base
	return after - 1, key == base || strings.HasSuffix(base, "/") && strings.HasPrefix(key, base)
}

// An item of a list, or what an object has as headers.
type item struct {
	key      string
	size     int64
	etag     string
	modified int64
	// Of a log: which, and of which file; else the object.
	log    int32
	number int
	object *object
}

func (l *logs) item(at place, file file) item {
	log := &l.all[at.log]
	size := size(l.pieces(log, file.number))
	return item{file.key, size, l.etag(log, file.number, size), l.modified(log, file.number), at.log, file.number, nil}
}

func (l *logs) get(key string) (item, bool) {
	if object, written := l.objects[key]; written {
		return item{key, int64(len(object.data)), object.etag, object.modified, -1, 0, object}, true
	}
	if at, found := l.find(key); found {
		for _, file := range l.files(l.places[at]) {
			if file.key == key {
				return l.item(l.places[at], file), true
			}
		}
	}
	return item{}, false
}

// A cursor walks over all keys in order.
type cursor struct {
	logs *logs
	// Where it stands among the places, in the files of that log, and among the written keys.
	place, written int
	files          []file
}

// seek goes to the first key that is not before this one.
func (c *cursor) seek(key string) {
	at, inside := c.logs.find(key)
	if inside {
		c.place = at
	} else {
		c.place = sort.Search(len(c.logs.places), func(i int) bool { return c.logs.places[i].base >= key })
	}
	c.fill()
	for len(c.files) > 0 && c.files[0].key < key {
		c.pass()
	}
	c.written = sort.SearchStrings(c.logs.written, key)
}

func (c *cursor) fill() {
	c.files = nil
	if c.place < len(c.logs.places) {
		c.files = c.logs.files(c.logs.places[c.place])
	}
}

func (c *cursor) pass() {
	if c.files = c.files[1:]; len(c.files) == 0 {
		c.place++
		c.fill()
	}
}

func (c *cursor) key() (string, bool) {
	switch {
	case len(c.files) == 0 && c.written == len(c.logs.written):
		return "", false
	case len(c.files) == 0 || c.written < len(c.logs.written) && c.logs.written[c.written] <= c.files[0].key:
		return c.logs.written[c.written], true
	}
	return c.files[0].key, true
}

// next takes the item at which the cursor stands.
func (c *cursor) next() item {
	key, _ := c.key()
	var taken item
	if len(c.files) > 0 && c.files[0].key == key {
		taken = c.logs.item(c.logs.places[c.place], c.files[0])
		c.pass()
	}
	if c.written < len(c.logs.written) && c.logs.written[c.written] == key {
		taken, _ = c.logs.get(key)
		c.written++
	}
	return taken
}
