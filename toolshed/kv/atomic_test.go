package kv

import (
	"encoding/json"
	"errors"
	"testing"
	"time"
)

// A body of an atomic write becomes a write that keeps its bounds, or is refused.
func FuzzAtomic(f *testing.F) {
	for _, seed := range []string{
		`{"checks":[{"key":["a",1],"versionstamp":null},{"key":["a"],"versionstamp":"00000000000000010000"}],"mutations":[{"type":"set","key":["a"],"value":{"b":[1]},"expire_in_ms":1}]}`,
		`{"mutations":[{"type":"delete","key":["a"]},{"type":"sum","key":[{"bytes":"AA=="}],"u64":"18446744073709551615"},{"type":"append","key":[],"bytes":""}]}`,
		`{"enqueues":[{"bigint":"-170141183460469231731687303715884105728","delay_ms":2592000000,"backoff_ms":[0,3600000],"keys_if_undelivered":[["a"],[true]]}]}`,
		`{"enqueues":[{"value":1,"backoff_ms":[18446744073710]}]}`, `{"enqueues":[{"value":1,"delay_ms":-1}]}`,
		`{"enqueues":[{"v8":"/w8w","u64":"1"}]}`, `{"mutations":[{"type":"max","key":["a"],"bigint":"1e9"}]}`, `{"checks":[{"key":[{}]}]}`, `{"mutations":[{"type":"set","key":["a"]}]}`, `null`,
	} {
		f.Add([]byte(seed))
	}
	now := time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
	h := handlers{kept: &Store{now: func() time.Time { return now }}}
	f.Fuzz(func(t *testing.T, b []byte) {
		var in atomicInput
		if json.Unmarshal(b, &in.Body) != nil {
			return
		}
		w, err := h.parseWrite(&in)
		if err == nil {
			err = w.check(now)
		}
		if err != nil {
			if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) {
				t.Errorf("error %v of no known kind", err)
			}
			return
		}
		if len(w.Checks) > MaxChecks || len(w.Mutations) > MaxMutations || len(w.Checks) != len(in.Body.Checks) || len(w.Mutations) != len(in.Body.Mutations) {
			t.Errorf("%d checks and %d mutations", len(w.Checks), len(w.Mutations))
		}
		for i, m := range w.Enqueues {
			asked := in.Body.Enqueues[i]
			if m.DueAt.Sub(now).Milliseconds() != asked.DelayMS {
				t.Errorf("%d milliseconds are %s", asked.DelayMS, m.DueAt.Sub(now))
			}
			for j, d := range m.Backoff {
				if d.Milliseconds() != asked.BackoffMS[j] {
					t.Errorf("%d milliseconds are %s", asked.BackoffMS[j], d)
				}
			}
		}
	})
}
