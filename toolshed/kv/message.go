package kv

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/toolshed-cloud/shed/toolshed/kv/pb"
)

// maxFields bounds the fields of a message, and maxPartFields those of its
// parts, before memory is given to them.
const (
	maxFields     = MaxChecks + MaxMutations
	maxPartFields = 64
)

// checkMessage counts the fields of a message and of its parts.
func checkMessage(b []byte) error {
	return eachField(b, maxFields, func(part []byte) error {
		return eachField(part, maxPartFields, func([]byte) error { return nil })
	})
}

func eachField(b []byte, most int, within func([]byte) error) error {
	for count := 0; len(b) > 0; count++ {
		if count == most {
			return fmt.Errorf("%w: a message has more than %d fields", ErrTooLarge, most)
		}
		_, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return fmt.Errorf("%w: no protocol buffer", ErrInvalid)
		}
		b = b[n:]
		if kind == protowire.BytesType {
			part, n := protowire.ConsumeBytes(b)
			if n < 0 {
				return fmt.Errorf("%w: no protocol buffer", ErrInvalid)
			}
			if err := within(part); err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		n = protowire.ConsumeFieldValue(1, kind, b)
		if n < 0 {
			return fmt.Errorf("%w: no protocol buffer", ErrInvalid)
		}
		b = b[n:]
	}
	return nil
}

func unmarshal(b []byte, into proto.Message) error {
	if err := proto.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w: no message of that kind", ErrInvalid)
	}
	return nil
}

func parseRead(body []byte) (ranges []Range, err error) {
	var m pb.SnapshotRead
	if err := unmarshal(body, &m); err != nil {
		return nil, err
	}
	if len(m.Ranges) > MaxRanges {
		return nil, fmt.Errorf("%w: %d ranges, at most %d", ErrInvalid, len(m.Ranges), MaxRanges)
	}
	total := 0
	for i, r := range m.Ranges {
		// One more than a key has: the end of a range of one key.
		if len(r.Start) > MaxKeyBytes+1 || len(r.End) > MaxKeyBytes+1 {
			return nil, fmt.Errorf("%w: ranges[%d] has a key of more than %d bytes", ErrInvalid, i, MaxKeyBytes+1)
		}
		if total += int(r.Limit); r.Limit < 1 || total > MaxPage {
			return nil, fmt.Errorf("%w: ranges[%d].limit: want 1 or more, and %d in all at most", ErrInvalid, i, MaxPage)
		}
		ranges = append(ranges, Range{Start: r.Start, End: r.End, Limit: int(r.Limit), Reverse: r.Reverse})
	}
	return ranges, nil
}

var kinds = map[pb.MutationType]Kind{
	pb.MutationType_M_SET: Set, pb.MutationType_M_DELETE: Delete, pb.MutationType_M_SUM: Sum, pb.MutationType_M_MIN: Min,
	pb.MutationType_M_MAX: Max, pb.MutationType_M_SET_SUFFIX_VERSIONSTAMPED_KEY: Append,
}

func parseAtomic(body []byte) (w Write, err error) {
	var m pb.AtomicWrite
	if err := unmarshal(body, &m); err != nil {
		return w, err
	}
	for i, c := range m.Checks {
		version, err := versionOf(c.Versionstamp)
		if err != nil {
			return w, fmt.Errorf("checks[%d]: %w", i, err)
		}
		w.Checks = append(w.Checks, Check{Key: c.Key, Version: version})
	}
	for i, c := range m.Mutations {
		one := Mutation{Kind: kinds[c.MutationType], Key: c.Key, Value: Value{Encoding: Encoding(c.Value.GetEncoding()), Data: c.Value.GetData()}}
		// -1 is how older clients say never.
		if c.ExpireAtMs < -1 {
			return w, fmt.Errorf("mutations[%d].expire_at_ms: %w: it is negative", i, ErrInvalid)
		}
		if c.ExpireAtMs > 0 {
			one.ExpiresAt = time.UnixMilli(c.ExpireAtMs)
		}
		if one.Kind == Sum {
			one.Bounds = Bounds{Min: c.SumMin, Max: c.SumMax, Clamp: c.SumClamp}
		}
		w.Mutations = append(w.Mutations, one)
	}
	for _, e := range m.Enqueues {
		one := Message{Payload: e.Payload, DueAt: time.UnixMilli(e.DeadlineMs), Undelivered: e.KeysIfUndelivered}
		for _, ms := range e.BackoffSchedule {
			one.Backoff = append(one.Backoff, time.Duration(ms)*time.Millisecond)
		}
		w.Enqueues = append(w.Enqueues, one)
	}
	return w, nil
}

func parseWatch(body []byte) (keys [][]byte, err error) {
	var m pb.Watch
	if err := unmarshal(body, &m); err != nil {
		return nil, err
	}
	if len(m.Keys) == 0 || len(m.Keys) > MaxWatched {
		return nil, fmt.Errorf("%w: %d keys, want 1 to %d", ErrInvalid, len(m.Keys), MaxWatched)
	}
	for i, k := range m.Keys {
		if err := checkKey(k.Key); err != nil {
			return nil, fmt.Errorf("keys[%d]: %w", i, err)
		}
		keys = append(keys, k.Key)
	}
	return keys, nil
}

func entryMessage(e *Entry) *pb.KvEntry {
	return &pb.KvEntry{
		Key: e.Key, Value: e.Value.Data, Encoding: pb.ValueEncoding(e.Value.Encoding), Versionstamp: versionstamp(e.Version),
	}
}
