package store

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkWrites measures one row a transaction beside the same done by the
// driver alone, with the same durability.
func BenchmarkWrites(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("store-%d", clients), func(b *testing.B) { writes(b, clients, openStore(b)) })
		b.Run(fmt.Sprintf("sqlite-%d", clients), func(b *testing.B) { writes(b, clients, openRaw(b)) })
	}
}

func writes(b *testing.B, clients int, write func(n int64) error) {
	var n atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	for range clients {
		all.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				if err := write(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
}

func openStore(b *testing.B) func(int64) error {
	d, err := OpenDirectory(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	db, err := d.Open(b.Context(), things)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close(); d.Close() })
	return func(n int64) error {
		return db.Update(context.Background(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT INTO things VALUES (?, ?)", fmt.Sprint(n), n)
			return err
		})
	}
}

func openRaw(b *testing.B) func(int64) error {
	db, err := sql.Open("sqlite", filepath.Join(b.TempDir(), "raw.db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("CREATE TABLE things (name TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT"); err != nil {
		b.Fatal(err)
	}
	insert, err := db.Prepare("INSERT INTO things VALUES (?, ?)")
	if err != nil {
		b.Fatal(err)
	}
	return func(n int64) error {
		_, err := insert.Exec(fmt.Sprint(n), n)
		return err
	}
}
