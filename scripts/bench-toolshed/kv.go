package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/kv"
	"github.com/toolshed-cloud/shed/toolshed/kv/key"
)

// kvAtLeast is the bound of kv_write, as the issue names it.
const kvAtLeast = 0.7

// Short rounds in turn: a busy disk is faster in one second than in the next.
const (
	rounds    = 21
	roundTime = 300 * time.Millisecond
)

// kvWrite compares writes of the key-value store, a value each that is on the
// disk when it is answered, with rows of SQLite: by one client, and by 64.
func kvWrite(dir string) (one measured, err error) {
	f, err := openFloor(dir)
	if err != nil {
		return one, err
	}
	defer func() { err = errors.Join(err, f.db.Close()) }()
	db, closing, err := openStore(dir, kv.Schema)
	if err != nil {
		return one, err
	}
	defer func() { err = errors.Join(err, closing()) }()
	s := kv.New(db, time.Now)
	ours := func(n int64) error {
		_, err := s.Put(context.Background(), kv.Mutation{Key: name(n), Value: kv.BytesValue(value)}, nil)
		return err
	}
	one.name = "kv_write"
	for _, clients := range []int{1, 64} {
		r, err := compare(clients, ours, func(n int64) error { return f.write(name(n)) })
		if err != nil {
			return one, err
		}
		fmt.Printf("kv_write, %2d clients: %8.0f writes/s, SQLite alone %8.0f, %.2f times as many (at least %.1f)\n", clients, r.Value, r.Floor, r.Ratio, kvAtLeast)
		if one.Ratio == 0 || r.Ratio < one.Ratio {
			one.ratio = r
		}
	}
	one.held = one.Ratio >= kvAtLeast
	return one, nil
}

// name is one of ten thousand keys.
func name(n int64) []byte {
	b, err := key.Key{"bench", float64(n % 10000)}.Encode()
	if err != nil {
		panic(err)
	}
	return b
}

// compare answers the median of the rounds' ratios, with the rates of that
// round.
func compare(clients int, ours, theirs func(int64) error) (ratio, error) {
	var all []ratio
	for range rounds {
		floor, err := rate(clients, theirs)
		if err != nil {
			return ratio{}, fmt.Errorf("SQLite: %w", err)
		}
		value, err := rate(clients, ours)
		if err != nil {
			return ratio{}, fmt.Errorf("the store: %w", err)
		}
		all = append(all, ratio{Value: value, Floor: floor, Ratio: value / floor})
	}
	slices.SortFunc(all, func(a, b ratio) int {
		if a.Ratio < b.Ratio {
			return -1
		}
		return 1
	})
	return all[len(all)/2], nil
}

// rate is how many writes a second so many clients do.
func rate(clients int, write func(int64) error) (float64, error) {
	var n atomic.Int64
	var failed atomic.Pointer[error]
	var all sync.WaitGroup
	began := time.Now()
	for range clients {
		all.Go(func() {
			for time.Since(began) < roundTime {
				if err := write(n.Add(1)); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	all.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(n.Load()) / time.Since(began).Seconds(), nil
}
