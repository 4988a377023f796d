package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// What an event log consists of: the events up to ApplicationStart, that one, many further events, and ApplicationEnd. All but
// the two short ones are compressed once, at the start of the program.
const (
	plain = iota
	zstdFrames
	zstdOneFrame
	lz4
	snappyBlocks
	lzf
	codecCount
)

var suffixes = [codecCount]string{"", ".zstd", ".zstd", ".lz4", ".snappy", ".lzf"}
var codecNames = map[string]uint8{"none": plain, "zstd": zstdFrames, "lz4": lz4, "snappy": snappyBlocks, "lzf": lzf}

const (
	// The header of a frame with a window of 512 KB.
	zstdHeader   = "\x28\xb5\x2f\xfd\x00\x48"
	snappyHeader = "\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
)

// Spark 2.4 is rare, and the last.
var versions = []string{"3.5.8", "3.3.2-amzn-0", "3.1.2", "4.1.1", "2.4.8-amzn-2"}

// The first is that of an application that names none.
var queues = []string{"", "default", "etl", "adhoc", "ml"}

type contents struct {
	// The codec of each log in a hundred.
	shares []uint8
	heads  [codecCount][][]byte
	middle [codecCount][]byte
	// Of small logs.
	smallHeads [codecCount][][]byte
}

func newContents(fixtures, shares string) (*contents, error) {
	made := &contents{}
	for _, share := range strings.Split(shares, ",") {
		name, number, _ := strings.Cut(share, "=")
		codec, known := codecNames[name]
		count, err := strconv.Atoi(number)
		if !known || err != nil {
			return nil, fmt.Errorf("%q is no share of a codec, such as zstd=45", share)
		}
		made.shares = append(made.shares, bytes.Repeat([]byte{codec}, count)...)
	}
	if len(made.shares) == 0 {
		return nil, errors.New("no codec has a share")
	}
	text, err := os.ReadFile(filepath.Join(fixtures, "application_1795352263709_0003"))
	if err != nil {
		return nil, err
	}
	lines := strings.SplitAfter(string(text), "\n")
	start := 0
	for !strings.Contains(lines[start], `"SparkListenerApplicationStart"`) {
		start++
	}
	middle := strings.Join(lines[start+1:len(lines)-2], "")
	for _, version := range versions {
		for _, queue := range queues {
			first := strings.Replace(lines[0], "3.5.8", version, 1)
			properties := `"Spark Properties":{`
			if queue != "" {
				properties += fmt.Sprintf(`"spark.yarn.queue":%q,`, queue)
			}
			rest := strings.Replace(strings.Join(lines[1:start], ""), `"Spark Properties":{`, properties, 1)
			small := strings.TrimSuffix(properties, ",") + `},"System Properties":{},"Classpath Entries":{}}` + "\n"
			small = `{"Event":"SparkListenerEnvironmentUpdate","JVM Information":{},` + small
			for codec := range codecCount {
				made.heads[codec] = append(made.heads[codec], compressedHead(codec, first+rest))
				made.smallHeads[codec] = append(made.smallHeads[codec], compressedHead(codec, first+lines[1]+small))
			}
		}
	}
	for codec := range codecCount {
		made.middle[codec] = compressedLines(codec, middle)
	}
	return made, nil
}

// A piece of an object, repeated.
type piece struct {
	data  []byte
	times int64
}

// head is the beginning of a log up to ApplicationStart.
func (c *contents) head(log *entry, sizes string) []piece {
	heads := &c.heads
	if sizes == "small" {
		heads = &c.smallHeads
	}
	data := heads[log.codec][int(log.version)*len(queues)+int(log.queue)]
	return []piece{{data, 1}, {stored(log.codec, startEvent(log), false), 1}}
}

// opening is what a codec writes before the first event of a further file of a rolling log.
func opening(codec uint8) []piece {
	switch codec {
	case snappyBlocks:
		return []piece{{[]byte(snappyHeader), 1}}
	case zstdOneFrame:
		return []piece{{[]byte(zstdHeader), 1}}
	}
	return nil
}

func (c *contents) events(log *entry, times int64) []piece {
	if times == 0 {
		return nil
	}
	return []piece{{c.middle[log.codec], times}}
}

// closing is what the codec writes when its stream is closed, after ApplicationEnd in the last file.
func closing(log *entry, last bool) []piece {
	event := ""
	if last {
		event = fmt.Sprintf("{\"Event\":\"SparkListenerApplicationEnd\",\"Timestamp\":%d}\n", log.end)
	}
	return []piece{{stored(log.codec, event, true), 1}}
}

func startEvent(log *entry) string {
	attempt := ""
	if log.attempt > 0 {
		attempt = fmt.Sprintf(`,"App Attempt ID":"%d"`, log.attempt)
	}
	var name bytes.Buffer
	encoder := json.NewEncoder(&name)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(log.name())
	return fmt.Sprintf("{\"Event\":\"SparkListenerApplicationStart\",\"App Name\":%s,\"App ID\":%q,\"Timestamp\":%d,\"User\":%q%s}\n",
		bytes.TrimSpace(name.Bytes()), log.id(), log.start, log.user(), attempt)
}

// Spark flushes its stream after these events, and a flush ends a frame of zstd.
var flushed = []string{"JobStart", "JobEnd", "StageCompleted", "ExecutorAdded", "BlockManagerAdded", "ApplicationStart"}

func frames(text string) (frames []string) {
	begun := 0
	for at, line := 0, ""; at < len(text); at += len(line) {
		line = text[at : at+strings.IndexByte(text[at:], '\n')+1]
		for _, event := range flushed {
			if strings.HasPrefix(line, `{"Event":"SparkListener`+event+`"`) {
				frames = append(frames, text[begun:at+len(line)])
				begun = at + len(line)
			}
		}
	}
	if begun < len(text) {
		frames = append(frames, text[begun:])
	}
	return frames
}

// A frame of zstd without a content size and checksum, as Java's streams write it.
func zstdFrame(text string) []byte {
	var out bytes.Buffer
	writer, err := zstd.NewWriter(&out, zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(false), zstd.WithWindowSize(512<<10))
	if err != nil {
		fail(err)
	}
	// Two writes with a flush between them: after a single one the writer knows the content's size, and writes it.
	_, _ = writer.Write([]byte(text[:len(text)/2]))
	_ = writer.Flush()
	_, _ = writer.Write([]byte(text[len(text)/2:]))
	_ = writer.Close()
	return out.Bytes()
}

// opened takes the mark of the last block from a frame of zstd, so that a further block can follow.
func opened(frame []byte) []byte {
	at := 6
	if frame[4]&0x20 != 0 || frame[4]&0xc3 != 0 {
		fail("zstd wrote another kind of frame than expected")
	}
	for {
		header := uint32(frame[at]) | uint32(frame[at+1])<<8 | uint32(frame[at+2])<<16
		if header&1 != 0 {
			frame[at] &^= 1
			return frame
		}
		size := int(header >> 3)
		if header>>1&3 == 1 {
			size = 1
		}
		at += 3 + size
	}
}

// compressedHead leaves the last frame of zstd open: ApplicationStart follows in the same frame, as in Spark's logs.
func compressedHead(codec int, text string) (out []byte) {
	switch codec {
	case zstdFrames:
		parts := frames(text)
		for _, part := range parts[:len(parts)-1] {
			out = append(out, zstdFrame(part)...)
		}
		return append(out, opened(zstdFrame(parts[len(parts)-1]))...)
	case zstdOneFrame:
		return opened(zstdFrame(text))
	case snappyBlocks:
		return append([]byte(snappyHeader), compressedLines(codec, text)...)
	}
	return compressedLines(codec, text)
}

func compressedLines(codec int, text string) (out []byte) {
	switch codec {
	case zstdFrames:
		for _, part := range frames(text) {
			out = append(out, zstdFrame(part)...)
		}
		return out
	case plain, zstdOneFrame:
		// In the middle of a frame a compressed block would depend on those before.
		return stored(uint8(codec), text, false)
	}
	for len(text) > 0 {
		block := text[:min(len(text), 32<<10)]
		text = text[len(block):]
		switch codec {
		case lz4:
			out = append(out, lz4Block(block, lz4Compressed([]byte(block)))...)
		case snappyBlocks:
			data := snappy.Encode(nil, []byte(block))
			out = append(binary.BigEndian.AppendUint32(out, uint32(len(data))), data...)
		case lzf:
			out = append(out, stored(lzf, block, false)...)
		}
	}
	return out
}

// stored is a text in a codec's format, not compressed. The last block of a log ends the stream.
func stored(codec uint8, text string, last bool) (out []byte) {
	switch codec {
	case zstdFrames, zstdOneFrame:
		if codec == zstdFrames && last {
			if text == "" {
				return nil
			}
			out = []byte(zstdHeader)
		}
		final := codec == zstdFrames || last
		for more := true; more; {
			block := text[:min(len(text), 128<<10)]
			text = text[len(block):]
			more = text != ""
			header := uint32(len(block)) << 3
			if final && !more {
				header |= 1
			}
			out = append(append(out, byte(header), byte(header>>8), byte(header>>16)), block...)
		}
		return out
	case lz4:
		if text != "" {
			out = lz4Block(text, nil)
		}
		if last {
			out = append(out, lz4Block("", nil)...)
		}
		return out
	case snappyBlocks:
		if text == "" {
			return nil
		}
		data := snappy.Encode(nil, []byte(text))
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
	case lzf:
		if text == "" {
			return nil
		}
		return append([]byte{'Z', 'V', 0, byte(len(text) >> 8), byte(len(text))}, text...)
	}
	return []byte(text)
}

// A block as lz4-java's LZ4BlockOutputStream writes it, with blocks of 32 KB at most.
func lz4Block(text string, compressed []byte) []byte {
	method, data := byte(0x20), compressed
	if compressed == nil || len(compressed) >= len(text) {
		method, data = 0x10, []byte(text)
	}
	out := append([]byte("LZ4Block"), method|5)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(data)))
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
	sum := uint32(0)
	if text != "" {
		sum = xxhash32([]byte(text), 0x9747b28c) & 0x0fffffff
	}
	return append(binary.LittleEndian.AppendUint32(out, sum), data...)
}

func lz4Compressed(text []byte) (out []byte) {
	var seen [1 << 13]int
	literals := 0
	sequence := func(end, length, distance int) {
		count := end - literals
		token := byte(min(count, 15)) << 4
		if length > 0 {
			token |= byte(min(length-4, 15))
		}
		out = append(out, token)
		more := func(rest int) {
			for ; rest >= 0; rest -= 255 {
				out = append(out, byte(min(rest, 255)))
			}
		}
		more(count - 15)
		out = append(out, text[literals:end]...)
		if length > 0 {
			out = append(out, byte(distance), byte(distance>>8))
			more(length - 4 - 15)
		}
		literals = end + length
	}
	// The format wants the last 5 bytes to be literals, and no match to begin in the last 12.
	for at := 0; at+12 < len(text); {
		word := binary.LittleEndian.Uint32(text[at:])
		slot := word * 2654435761 >> 19
		before := seen[slot] - 1
		seen[slot] = at + 1
		if before < 0 || binary.LittleEndian.Uint32(text[before:]) != word {
			at++
			continue
		}
		length := 4
		for at+length < len(text)-5 && text[before+length] == text[at+length] {
			length++
		}
		sequence(at, length, at-before)
		at += length
	}
	sequence(len(text), 0, 0)
	return out
}

func xxhash32(data []byte, seed uint32) uint32 {
	const p1, p2, p3, p4, p5 = 2654435761, 2246822519, 3266489917, 668265263, 374761393
	p := uint32(p1)
	hash, length := seed+p5, uint32(len(data))
	if len(data) >= 16 {
		v := [4]uint32{seed + p + p2, seed + p2, seed, seed - p1}
		for ; len(data) >= 16; data = data[16:] {
			for lane := range v {
				v[lane] = bits.RotateLeft32(v[lane]+binary.LittleEndian.Uint32(data[4*lane:])*p2, 13) * p1
			}
		}
		hash = bits.RotateLeft32(v[0], 1) + bits.RotateLeft32(v[1], 7) + bits.RotateLeft32(v[2], 12) + bits.RotateLeft32(v[3], 18)
	}
	hash += length
	for ; len(data) >= 4; data = data[4:] {
		hash = bits.RotateLeft32(hash+binary.LittleEndian.Uint32(data)*p3, 17) * p4
	}
	for _, one := range data {
		hash = bits.RotateLeft32(hash+uint32(one)*p5, 11) * p1
	}
	hash = (hash ^ hash>>15) * p2
	hash = (hash ^ hash>>13) * p3
	return hash ^ hash>>16
}
