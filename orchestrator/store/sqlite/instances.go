package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// Instance implements store.InstanceReader.
func (r *reader) Instance(id orchestrator.InstanceID) (orchestrator.Instance, error) {
	return r.one("instance "+string(id), "WHERE id = ?", string(id))
}

// InstanceOfMachine implements store.InstanceReader.
func (r *reader) InstanceOfMachine(id providers.MachineID) (orchestrator.Instance, error) {
	if id == "" {
		return orchestrator.Instance{}, fmt.Errorf("machine without an id: %w", orchestrator.ErrNotFound)
	}
	return r.one("machine "+string(id), "WHERE machine = ?", string(id))
}

func (r *reader) one(what, rest string, args ...any) (orchestrator.Instance, error) {
	found, err := r.instances(rest, args...)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s: %w", what, orchestrator.ErrNotFound)
	}
	if err != nil {
		return orchestrator.Instance{}, err
	}
	return found[0], nil
}

// Instances implements store.InstanceReader.
func (r *reader) Instances(f store.Filter) ([]orchestrator.Instance, error) {
	limit := f.Limit
	if limit == 0 {
		limit = -1 // SQLite's word for no limit
	}
	return r.instances(`WHERE (?1 = '' OR user = ?1)
		AND (?2 = '' OR desired = ?2)
		AND (?3 OR state <> 'deleted')
		AND (?4 = 0 OR next_at BETWEEN 1 AND ?4)
		AND (?5 = '' OR seq > (SELECT seq FROM instances WHERE id = ?5))
		ORDER BY seq LIMIT ?6`,
		string(f.User), string(f.Desired), f.Deleted, micros(f.DueBy), string(f.After), limit)
}

func (r *reader) instances(rest string, args ...any) ([]orchestrator.Instance, error) {
	var all []orchestrator.Instance
	scan := func(rows *sql.Rows) error {
		var document string
		var version uint64
		var seen int64
		if err := rows.Scan(&version, &seen, &document); err != nil {
			return err
		}
		var i orchestrator.Instance
		if err := json.Unmarshal([]byte(document), &i); err != nil {
			return err
		}
		i.Version = version
		i.Enrolment.LastSeen = fromMicros(seen)
		all = append(all, i)
		return nil
	}
	return all, r.each("instances", scan, "SELECT version, last_seen, document FROM instances "+rest, args...)
}

// Insert implements store.InstanceWriter.
func (t *tx) Insert(i orchestrator.Instance) error {
	i.Version = 1
	document, err := encode(&i)
	if err != nil {
		return err
	}
	if err := t.exec("adding an instance",
		`INSERT INTO instances (id, user, desired, state, version, machine, next_at, last_seen, document)
		 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		string(i.ID), string(i.User), string(i.Desired), string(i.State), i.Version,
		string(i.Machine), micros(i.NextAt), micros(i.Enrolment.LastSeen), document); err != nil {
		return err
	}
	return t.remember(&i)
}

// Replace implements store.InstanceWriter.
func (t *tx) Replace(i *orchestrator.Instance) error {
	next := *i
	next.Version++
	document, err := encode(&next)
	if err != nil {
		return err
	}
	n, err := t.changes("writing an instance",
		`UPDATE instances SET user = ?, desired = ?, state = ?, version = ?, machine = ?, next_at = ?,
		 last_seen = max(last_seen, ?), document = ? WHERE id = ? AND version = ?`,
		string(next.User), string(next.Desired), string(next.State), next.Version, string(next.Machine),
		micros(next.NextAt), micros(next.Enrolment.LastSeen), document, string(i.ID), i.Version)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("writing instance %s over version %d: %w", i.ID, i.Version, orchestrator.ErrStale)
	}
	i.Version = next.Version
	return t.remember(i)
}

// Seen implements store.InstanceWriter.
func (t *tx) Seen(beats map[providers.MachineID]time.Time) error {
	for machine, at := range beats {
		if err := t.exec("recording a heartbeat",
			"UPDATE instances SET last_seen = max(last_seen, ?) WHERE machine = ?", micros(at), string(machine)); err != nil {
			return err
		}
	}
	return nil
}
