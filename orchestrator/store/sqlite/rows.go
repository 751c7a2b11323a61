package sqlite

import (
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

type reader struct {
	conn *conn
	salt []byte
}

type tx struct {
	reader
	forgotten *hourly
	// hints are handed out once the transaction holds.
	hints []orchestrator.InstanceID
}

var (
	_ store.Reader = (*reader)(nil)
	_ store.Tx     = (*tx)(nil)
)

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func (t *tx) exec(what, query string, args ...any) error {
	_, err := t.changes(what, query, args...)
	return err
}

func (t *tx) changes(what, query string, args ...any) (int64, error) {
	n, err := t.conn.changes(query, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, translate(err))
	}
	return n, nil
}

// scalar reads one value; orchestrator.ErrNotFound where there is none.
func (r *reader) scalar(what string, into any, query string, args ...any) error {
	return r.row(what, []any{into}, query, args...)
}

// row reads one row; orchestrator.ErrNotFound where there is none.
func (r *reader) row(what string, into []any, query string, args ...any) error {
	found := false
	scan := func(rows *sql.Rows) error {
		found = true
		return rows.Scan(into...)
	}
	if err := r.each(what, scan, query, args...); err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s: %w", what, orchestrator.ErrNotFound)
	}
	return nil
}

// each calls scan for each row of a query.
func (r *reader) each(what string, scan func(*sql.Rows) error, query string, args ...any) error {
	if err := r.conn.each(scan, query, args...); err != nil {
		return fmt.Errorf("reading %s: %w", what, err)
	}
	return nil
}

// Meta implements store.Reader.
func (r *reader) Meta(key string) (string, error) {
	var value string
	return value, r.scalar(key, &value, "SELECT value FROM meta WHERE key = ?", key)
}

// TokenName implements store.Reader.
func (r *reader) TokenName(hash attest.Digest) (string, error) {
	var name string
	return name, r.scalar("token", &name, "SELECT name FROM tokens WHERE hash = ?", hash.String())
}

// PutMeta implements store.Tx.
func (t *tx) PutMeta(key, value string) error {
	return t.exec("writing "+key,
		"INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
}

// PutToken implements store.Tx.
func (t *tx) PutToken(hash attest.Digest, name string) error {
	return t.exec("writing a token",
		"INSERT INTO tokens (hash, name) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING", hash.String(), name)
}

// Receipt implements store.Reader.
func (r *reader) Receipt(id string) (store.Receipt, error) {
	var body string
	var at int64
	receipt := store.Receipt{ID: id}
	err := r.row("receipt", []any{&body, &at, &receipt.Result}, "SELECT body, at, result FROM receipts WHERE id = ?", id)
	if err != nil {
		return receipt, err
	}
	receipt.At = fromMicros(at)
	return receipt, receipt.Body.UnmarshalText([]byte(body))
}

// receiptsKept is how long a message's id is remembered. A message that is
// signed anew after that is ordered by its event's time all the same.
const receiptsKept = 30 * 24 * time.Hour

// hourly is due once in an hour of the times it is asked with, and the first
// time.
type hourly struct{ last time.Time }

func (h *hourly) due(at time.Time) bool {
	if at.Sub(h.last).Abs() < time.Hour {
		return false
	}
	h.last = at
	return true
}

// PutReceipt implements store.Tx.
func (t *tx) PutReceipt(r store.Receipt) error {
	if t.forgotten.due(r.At) {
		if err := t.exec("forgetting old receipts", "DELETE FROM receipts WHERE at < ?", micros(r.At.Add(-receiptsKept))); err != nil {
			return err
		}
	}
	return t.exec("writing a receipt", "INSERT INTO receipts (id, body, at, result) VALUES (?, ?, ?, ?)",
		r.ID, r.Body.String(), micros(r.At), r.Result)
}

// Tombstone implements store.Reader.
func (r *reader) Tombstone(user orchestrator.UserID) (time.Time, error) {
	var upTo int64
	err := r.scalar("tombstone", &upTo, "SELECT up_to FROM tombstones WHERE user = ?", r.graveOf(user))
	if errors.Is(err, orchestrator.ErrNotFound) {
		return time.Time{}, nil
	}
	return fromMicros(upTo), err
}

// PutTombstone implements store.Tx.
func (t *tx) PutTombstone(user orchestrator.UserID, upTo time.Time) error {
	return t.exec("writing a tombstone",
		`INSERT INTO tombstones (user, up_to) VALUES (?, ?)
		 ON CONFLICT (user) DO UPDATE SET up_to = max(up_to, excluded.up_to)`, t.graveOf(user), micros(upTo))
}

func (r *reader) graveOf(user orchestrator.UserID) string {
	mac := hmac.New(sha256.New, r.salt)
	mac.Write([]byte(user))
	return hex.EncodeToString(mac.Sum(nil))
}

// Note implements store.Tx.
func (t *tx) Note(e orchestrator.Event) error {
	return t.exec("writing an event",
		"INSERT INTO events (at, instance, from_state, to_state, reason) VALUES (?, ?, ?, ?, ?)",
		micros(e.At), string(e.Instance), string(e.From), string(e.To), e.Reason)
}

// Enqueue implements store.Tx. The row that the transaction wrote is what is
// left of it after a crash.
func (t *tx) Enqueue(id orchestrator.InstanceID) error {
	t.hints = append(t.hints, id)
	return nil
}

// Events implements store.Reader.
func (r *reader) Events(after int64, of orchestrator.InstanceID, limit int) ([]orchestrator.Event, error) {
	var events []orchestrator.Event
	scan := func(rows *sql.Rows) error {
		var e orchestrator.Event
		var at int64
		if err := rows.Scan(&e.ID, &at, &e.Instance, &e.From, &e.To, &e.Reason); err != nil {
			return err
		}
		e.At = fromMicros(at)
		events = append(events, e)
		return nil
	}
	const columns = "SELECT id, at, instance, from_state, to_state, reason FROM events WHERE id > ?1"
	if of == "" {
		return events, r.each("events", scan, columns+" ORDER BY id LIMIT ?2", after, limit)
	}
	return events, r.each("events", scan, columns+" AND instance = ?2 ORDER BY id LIMIT ?3", after, string(of), limit)
}

// States implements store.Reader.
func (r *reader) States() (map[orchestrator.State]int, error) {
	counts := make(map[orchestrator.State]int)
	scan := func(rows *sql.Rows) error {
		var state orchestrator.State
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			return err
		}
		counts[state] = n
		return nil
	}
	return counts, r.each("states", scan, "SELECT state, count(*) FROM instances GROUP BY state")
}

const releaseColumns = "digest, version, epoch, manifest, bundle, disk_path, disk_sha256, disk_bytes, added_at"

// Release implements store.Reader.
func (r *reader) Release(d attest.ReleaseDigest) (orchestrator.Release, error) {
	found, err := r.releases("WHERE digest = ?", d.String())
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("release %s: %w", d, orchestrator.ErrNotFound)
	}
	if err != nil {
		return orchestrator.Release{}, err
	}
	return found[0], nil
}

// Releases implements store.Reader.
func (r *reader) Releases() ([]orchestrator.Release, error) {
	return r.releases("ORDER BY epoch DESC, added_at DESC")
}

func (r *reader) releases(rest string, args ...any) ([]orchestrator.Release, error) {
	var all []orchestrator.Release
	scan := func(rows *sql.Rows) error {
		var rel orchestrator.Release
		var digest, disk string
		var added int64
		if err := rows.Scan(&digest, &rel.Version, &rel.Epoch, &rel.Manifest, &rel.Bundle,
			&rel.DiskPath, &disk, &rel.DiskBytes, &added); err != nil {
			return err
		}
		rel.AddedAt = fromMicros(added)
		all = append(all, rel)
		last := &all[len(all)-1]
		return errors.Join(last.Digest.UnmarshalText([]byte(digest)), last.DiskSHA256.UnmarshalText([]byte(disk)))
	}
	return all, r.each("releases", scan, "SELECT "+releaseColumns+" FROM releases "+rest, args...)
}

// PutRelease implements store.Tx. A release is named by its digest, so adding
// it again changes where its disk lies and nothing else.
func (t *tx) PutRelease(r orchestrator.Release) error {
	if r.Epoch > math.MaxInt64 {
		return fmt.Errorf("writing a release: epoch %d is out of range", r.Epoch)
	}
	return t.exec("writing a release",
		"INSERT INTO releases ("+releaseColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"+
			" ON CONFLICT (digest) DO UPDATE SET disk_path = excluded.disk_path",
		r.Digest.String(), r.Version, r.Epoch, r.Manifest, r.Bundle,
		r.DiskPath, r.DiskSHA256.String(), r.DiskBytes, micros(r.AddedAt))
}

// The machine table remembers every id that was drawn.
func (t *tx) remember(i *orchestrator.Instance) error {
	if i.Machine == "" {
		return nil
	}
	return t.exec("remembering a machine",
		"INSERT INTO machines (id, instance) VALUES (?, ?) ON CONFLICT (id) DO NOTHING", string(i.Machine), string(i.ID))
}

// Machine implements store.Reader.
func (r *reader) Machine(id providers.MachineID) (orchestrator.InstanceID, error) {
	var instance orchestrator.InstanceID
	return instance, r.scalar("machine", &instance, "SELECT instance FROM machines WHERE id = ?", string(id))
}
