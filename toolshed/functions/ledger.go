package functions

import (
	"context"
	"database/sql"
	"strings"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

const (
	// maxLogBytes are kept of what one call writes to its standard error, and
	// maxEntries calls of each function.
	maxLogBytes = 16 << 10
	maxEntries  = 500
	// maxPending bounds what is not written yet.
	maxPending = 256
	// writeEvery is how long an entry waits for others, so that a call costs
	// no sync of the disk.
	writeEvery = time.Second
)

// Entry is one call in a function's log.
type Entry struct {
	ID        int64     `json:"id"`
	Version   int64     `json:"version"`
	Trigger   string    `json:"trigger" enum:"http,schedule,queue"`
	At        time.Time `json:"at"`
	TimeUS    int64     `json:"time_us"`
	PeakBytes int64     `json:"peak_memory_bytes"`
	HostCalls int64     `json:"host_calls"`
	Failure   string    `json:"failure,omitempty" doc:"why it failed"`
	Text      string    `json:"text" doc:"what it wrote to its standard error, the first 16 KiB"`

	name string
}

// ledger accounts calls and keeps their logs. What a killed process had not
// written is lost: a second's calls.
type ledger struct {
	db *store.DB
	// mu guards pending and timer.
	mu      sync.Mutex
	pending []Entry
	timer   *time.Timer
	// writing is held by who writes, so that what a reader waits for is there.
	writing sync.Mutex
}

func (l *ledger) add(e Entry) {
	l.mu.Lock()
	l.pending = append(l.pending, e)
	full := len(l.pending) >= maxPending
	if l.timer == nil && !full {
		l.timer = time.AfterFunc(writeEvery, func() { _ = l.flush(context.Background()) })
	}
	l.mu.Unlock()
	if full {
		// On a full disk the accounts wait, and then lose the oldest calls.
		_ = l.flush(context.Background())
	}
}

// flush writes what is pending. What could not be written stays, as long as it
// is not too much.
func (l *ledger) flush(ctx context.Context) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	taken := l.pending
	l.pending = nil
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.mu.Unlock()
	if len(taken) == 0 {
		return nil
	}
	err := l.db.Update(ctx, func(tx *store.Tx) error { return write(tx, taken) })
	if err != nil {
		l.mu.Lock()
		l.pending = append(taken, l.pending...)
		l.pending = l.pending[max(0, len(l.pending)-maxPending):]
		l.mu.Unlock()
	}
	return wrap("keeping accounts", err)
}

func write(tx *store.Tx, entries []Entry) error {
	names := map[string]bool{}
	for _, e := range entries {
		failures := 0
		if e.Failure != "" {
			failures = 1
		}
		done, err := tx.Exec(`UPDATE functions SET calls = calls + 1, failures = failures + ?, time_us = time_us + ?,
			host_calls = host_calls + ?, peak_bytes = max(peak_bytes, ?) WHERE name = ?`, failures, e.TimeUS, e.HostCalls, e.PeakBytes, e.name)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n == 0 {
			// It was deleted meanwhile.
			continue
		}
		names[e.name] = true
		if _, err := tx.Exec(`INSERT INTO logs (name, version, trigger, at, time_us, peak_bytes, host_calls, failure, text) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			e.name, e.Version, e.Trigger, e.At.UnixMilli(), e.TimeUS, e.PeakBytes, e.HostCalls, e.Failure, e.Text); err != nil {
			return err
		}
	}
	for name := range names {
		if _, err := tx.Exec(`DELETE FROM logs WHERE name = ? AND id <= (SELECT id FROM logs WHERE name = ? ORDER BY id DESC LIMIT 1 OFFSET ?)`,
			name, name, maxEntries); err != nil {
			return err
		}
	}
	return nil
}

// entries are of a function's calls after one, the oldest first; where after is
// 0, the latest.
func (l *ledger) entries(ctx context.Context, name string, after int64, limit int) (all []Entry, err error) {
	if err := l.flush(ctx); err != nil {
		return nil, err
	}
	order := `ASC`
	if after == 0 {
		order = `DESC`
	}
	all = []Entry{}
	err = l.db.View(ctx, func(tx *store.Tx) error {
		if err := there(tx, name); err != nil {
			return err
		}
		return tx.Each(func(rows *sql.Rows) error {
			var e Entry
			var at int64
			if err := rows.Scan(&e.ID, &e.Version, &e.Trigger, &at, &e.TimeUS, &e.PeakBytes, &e.HostCalls, &e.Failure, &e.Text); err != nil {
				return err
			}
			e.At = time.UnixMilli(at).UTC()
			all = append(all, e)
			return nil
		}, `SELECT * FROM (SELECT id, version, trigger, at, time_us, peak_bytes, host_calls, failure, text FROM logs
			WHERE name = ? AND id > ? ORDER BY id `+order+` LIMIT ?) ORDER BY id`, name, after, limit)
	})
	return all, wrap("reading a log", err)
}

// text is what of a log can be shown: a function writes any bytes.
func text(b []byte) string {
	return strings.ToValidUTF8(string(b), "\uFFFD")
}
