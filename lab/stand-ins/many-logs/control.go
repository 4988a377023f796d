package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// The paths of control:
//
//	GET  /_/counters     requests since the last reset, by kind, and how many logs cost how many GETs
//	POST /_/reset        all counters to zero; ?record=1 keeps the ranged GETs from now on
//	GET  /_/ranges       those, a line each: key, tab, Range
//	GET  /_/rows         what is true of each log, a line of JSON each
//	POST /_/add          ?count=1&running=0&layout=flat: applications of the live cluster that end, or start, now; answers their rows
//	POST /_/grow         ?count=1&end=0: running logs get more events, and their end; answers their rows
//	POST /_/remove       ?count=1: deletes the newest logs; ?key=: one
//	POST /_/faults       ?errors=0.01&slow=0&hang=0&short=0&denied=0&below=month/&only=GET,LIST: shares of requests, and of keys below a prefix that are denied
//	POST /_/delay        ?to=30ms
//	POST /_/conditional  ?to=yes|refuse|ignore
func (s *server) control(answer http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	number := func(name string, otherwise int) int {
		if number, err := strconv.Atoi(query.Get(name)); err == nil {
			return number
		}
		return otherwise
	}
	switch name := strings.TrimPrefix(request.URL.Path, "/_/"); name {
	case "counters":
		s.tell(answer)
	case "reset":
		s.reset()
		s.record = query.Get("record") == "1"
	case "ranges":
		s.lock.Lock()
		defer s.lock.Unlock()
		out := bufio.NewWriter(answer)
		defer out.Flush()
		for _, line := range s.ranges {
			fmt.Fprintln(out, line)
		}
	case "rows":
		s.logs.lock.RLock()
		defer s.logs.lock.RUnlock()
		out := bufio.NewWriter(answer)
		defer out.Flush()
		encoder := json.NewEncoder(out)
		for _, at := range s.logs.places {
			_ = encoder.Encode(s.logs.row(at.log))
		}
	case "add", "grow", "remove":
		s.logs.lock.Lock()
		defer s.logs.lock.Unlock()
		var changed []int32
		switch name {
		case "add":
			changed = s.logs.add(number("count", 1), number("running", 0) == 1, query.Get("layout"))
		case "grow":
			changed = s.logs.grow(number("count", 1), number("end", 0) == 1)
		case "remove":
			changed = s.logs.chosen(number("count", 1), query.Get("key"))
			for _, log := range changed {
				s.logs.take(log)
			}
			// Their rows are told as they were.
			defer func() {
				for _, log := range changed {
					s.logs.all[log].state = deleted
				}
			}()
		}
		s.lock.Lock()
		s.gets = append(s.gets, make([]atomic.Int32, len(s.logs.all)-len(s.gets))...)
		s.lock.Unlock()
		encoder := json.NewEncoder(answer)
		for _, log := range changed {
			_ = encoder.Encode(s.logs.row(log))
		}
	case "faults":
		set, err := faultsOf(query)
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		if before := s.faults.Swap(set); before != nil {
			before.end()
		}
	case "delay":
		delay, err := time.ParseDuration(query.Get("to"))
		if err != nil {
			http.Error(answer, err.Error(), http.StatusBadRequest)
			return
		}
		s.delay.Store(int64(delay))
	case "conditional":
		s.logs.lock.Lock()
		defer s.logs.lock.Unlock()
		s.conditional = query.Get("to")
	default:
		http.NotFound(answer, request)
	}
}

func faultsOf(query url.Values) (*faults, error) {
	set := &faults{Only: query.Get("only"), Below: query.Get("below")}
	set.over, set.end = context.WithCancel(context.Background())
	shares := map[string]*float64{"errors": &set.Errors, "slow": &set.Slow, "hang": &set.Hang, "short": &set.Short, "denied": &set.Denied}
	for name := range query {
		share, known := shares[name]
		if name == "only" || name == "below" {
			continue
		}
		if !known {
			return nil, fmt.Errorf("there is no fault %q", name)
		}
		var err error
		if *share, err = strconv.ParseFloat(query.Get(name), 64); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func (s *server) reset() {
	s.lock.Lock()
	defer s.lock.Unlock()
	for kind := range s.kinds {
		s.kinds[kind].Store(0)
	}
	s.bytes.Store(0)
	s.faulty.Store(0)
	s.most.Store(0)
	s.gets = make([]atomic.Int32, len(s.logs.all))
	s.ranges = nil
}

func (s *server) tell(answer http.ResponseWriter) {
	s.lock.Lock()
	defer s.lock.Unlock()
	told := map[string]any{"bytes": s.bytes.Load(), "faults": s.faulty.Load(), "most at once": s.most.Load(), "logs": len(s.logs.places)}
	for kind, name := range kindNames {
		told[name] = s.kinds[kind].Load()
	}
	logs := map[string]int{}
	for i := range s.gets {
		logs[strconv.Itoa(int(s.gets[i].Load()))]++
	}
	// By the number of GETs: how many logs.
	told["logs by GETs"] = logs
	answer.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(answer).Encode(told)
}

// What an index should say of a log.
type row struct {
	ID      string `json:"id"`
	Attempt string `json:"attempt,omitempty"`
	Name    string `json:"name"`
	User    string `json:"user"`
	Queue   string `json:"queue,omitempty"`
	Spark   string `json:"spark"`
	// Times are milliseconds since 1970. Without an ApplicationEnd there is no end.
	Started   int64  `json:"started"`
	Ended     int64  `json:"ended,omitempty"`
	Completed bool   `json:"completed"`
	Key       string `json:"key"`
	Codec     string `json:"codec,omitempty"`
	// Of all files with events.
	Size     int64 `json:"size"`
	Modified int64 `json:"modified"`
}

func (l *logs) row(number int32) row {
	log := &l.all[number]
	at := place{log.base(), number}
	told := row{ID: log.id(), Name: log.name(), User: log.user(), Queue: queues[log.queue], Spark: versions[log.version], Started: log.start,
		Completed: log.ended(), Codec: strings.TrimPrefix(suffixes[log.codec], "."), Key: at.base}
	if log.attempt > 0 {
		told.Attempt = strconv.Itoa(int(log.attempt))
	}
	if log.layout == serverlessLayout {
		told.Attempt = ""
		told.Key += "sparklogs/eventlog_v2_" + log.id() + "/"
	}
	if log.ended() {
		told.Ended = log.end
	}
	for _, file := range l.files(at) {
		if file.number > 0 {
			told.Size += size(l.pieces(log, file.number))
			told.Modified = max(told.Modified, l.modified(log, file.number))
		}
	}
	return told
}

func (l *logs) add(count int, run bool, layout string) (changed []int32) {
	now := time.Now().UnixMilli()
	kind := map[string]uint8{"": flatLayout, "flat": flatLayout, "month": monthLayout, "serverless": serverlessLayout}[layout]
	stamp := int64(0)
	for _, log := range l.all {
		if log.layout == kind {
			stamp = max(stamp, log.stamp)
		}
	}
	if stamp == 0 {
		stamp = l.now - 3_600_000
	}
	number := uint32(0)
	for _, log := range l.all {
		if log.layout == kind && log.stamp == stamp {
			number = max(number, log.number)
		}
	}
	for range count {
		number++
		hash := mixed(uint64(stamp)<<20 + uint64(number) + 1<<60)
		log := l.append(kind, hash, stamp, number, 0, now-60_000)
		log.end, log.state = now, complete
		if run {
			log.end, log.state, log.wrote = now+86400_000, running, now
		}
		changed = append(changed, int32(len(l.all)-1))
		l.insert(changed[len(changed)-1])
	}
	l.now = max(l.now, now)
	return changed
}

func (l *logs) grow(count int, end bool) (changed []int32) {
	l.now = max(l.now, time.Now().UnixMilli())
	for number := len(l.all) - 1; number >= 0 && len(changed) < count; number-- {
		if log := &l.all[number]; log.state == running {
			l.take(int32(number))
			log.repeats += 5
			log.wrote = l.now
			if end {
				log.end, log.state = l.now, complete
			}
			l.insert(int32(number))
			changed = append(changed, int32(number))
		}
	}
	return changed
}

// chosen are the newest logs, or the one with a key.
func (l *logs) chosen(count int, key string) (changed []int32) {
	if key != "" {
		if at, found := l.find(key); found {
			changed = append(changed, l.places[at].log)
		}
	}
	for number := int32(len(l.all) - 1); key == "" && number >= 0 && len(changed) < count; number-- {
		if l.all[number].state != deleted {
			changed = append(changed, number)
		}
	}
	return changed
}
