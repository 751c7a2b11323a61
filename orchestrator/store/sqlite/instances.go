package sqlite

import (
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// Instance implements store.Reader.
func (r *reader) Instance(id orchestrator.InstanceID) (orchestrator.Instance, error) {
	return r.one("instance "+string(id), "WHERE id = ?", string(id))
}

// InstanceOfMachine implements store.Reader.
func (r *reader) InstanceOfMachine(id providers.MachineID) (orchestrator.Instance, error) {
	if id == "" {
		return orchestrator.Instance{}, fmt.Errorf("machine without an id: %w", orchestrator.ErrNotFound)
	}
	return r.one("machine "+string(id), "WHERE machine = ? AND machine <> ''", string(id))
}

// InstanceOfUser implements store.Reader.
func (r *reader) InstanceOfUser(user orchestrator.UserID) (orchestrator.Instance, error) {
	return r.one("instance of the user", "WHERE user = ? AND desired = 'present'", string(user))
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

// Instances implements store.Reader. Only the conditions that are asked for
// are in the statement: SQLite uses an index for no others.
func (r *reader) Instances(f store.Filter) ([]orchestrator.Instance, error) {
	where, args := []string{"TRUE"}, []any{}
	if f.User != "" {
		// A deleted one has no user any more.
		where = append(where, "(user = ? AND desired = 'present' OR user = ? AND desired = 'absent' AND state <> 'deleted')")
		args = append(args, string(f.User), string(f.User))
	}
	if !f.Deleted {
		where = append(where, "state <> 'deleted'")
	}
	if f.After != "" {
		where, args = append(where, "seq > (SELECT seq FROM instances WHERE id = ?)"), append(args, string(f.After))
	}
	limit := f.Limit
	if limit == 0 {
		limit = -1 // SQLite's word for no limit
	}
	return r.instances("WHERE "+strings.Join(where, " AND ")+" ORDER BY seq LIMIT ?", append(args, limit)...)
}

// Admissible implements store.Reader.
func (r *reader) Admissible(limit int) ([]orchestrator.Instance, error) {
	return r.instances(`AS this WHERE state = 'waiting' AND desired = 'present' AND NOT EXISTS (
		SELECT 1 FROM instances AS before
		WHERE before.user = this.user AND before.desired = 'absent' AND before.state <> 'deleted')
		ORDER BY seq LIMIT ?`, limit)
}

// placeHolders lists the states that hold a place, as SQL has it.
var placeHolders = func() string {
	var quoted []string
	for _, s := range orchestrator.States {
		if s.HoldsPlace() {
			quoted = append(quoted, "'"+string(s)+"'")
		}
	}
	return "(" + strings.Join(quoted, ", ") + ")"
}()

// Places implements store.Reader.
func (r *reader) Places() (int, error) {
	var n int
	return n, r.scalar("places", &n, "SELECT count(*) FROM instances WHERE state IN "+placeHolders)
}

// Unfinished implements store.Reader.
func (r *reader) Unfinished() ([]orchestrator.InstanceID, error) {
	var ids []orchestrator.InstanceID
	scan := func(rows *sql.Rows) error {
		var id orchestrator.InstanceID
		err := rows.Scan(&id)
		ids = append(ids, id)
		return err
	}
	return ids, r.each("unfinished instances", scan, "SELECT id FROM instances WHERE state IN "+placeHolders+
		" UNION ALL SELECT id FROM instances WHERE state = 'waiting' AND desired = 'absent'")
}

func (r *reader) instances(rest string, args ...any) ([]orchestrator.Instance, error) {
	var all []orchestrator.Instance
	scan := func(rows *sql.Rows) error {
		var id, document string
		var version uint64
		var seen int64
		if err := rows.Scan(&id, &version, &seen, &document); err != nil {
			return err
		}
		i, err := decode(document)
		if err != nil {
			return fmt.Errorf("instance %s: %w", id, err)
		}
		i.Version = version
		i.Enrolment.LastSeen = fromMicros(seen)
		all = append(all, i)
		return nil
	}
	return all, r.each("instances", scan, "SELECT id, version, last_seen, document FROM instances "+rest, args...)
}

// Insert implements store.Tx.
func (t *tx) Insert(i orchestrator.Instance) error {
	document, err := encode(i)
	if err != nil {
		return err
	}
	if err := t.exec("adding an instance",
		`INSERT INTO instances (id, user, desired, state, version, machine, last_seen, document)
		 VALUES (?, ?, ?, ?, 1, ?, ?, ?)`,
		string(i.ID), string(i.User), string(i.Desired), string(i.State),
		string(i.Machine), micros(i.Enrolment.LastSeen), document); err != nil {
		return err
	}
	return t.remember(&i)
}

// Replace implements store.Tx.
func (t *tx) Replace(i *orchestrator.Instance) error {
	document, err := encode(*i)
	if err != nil {
		return err
	}
	n, err := t.changes("writing an instance",
		`UPDATE instances SET user = ?, desired = ?, state = ?, version = version + 1, machine = ?,
		 last_seen = iif(?, last_seen, 0), document = ? WHERE id = ? AND version = ?`,
		string(i.User), string(i.Desired), string(i.State), string(i.Machine),
		!i.Enrolment.LastSeen.IsZero(), document, string(i.ID), i.Version)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("writing instance %s over version %d: %w", i.ID, i.Version, orchestrator.ErrStale)
	}
	i.Version++
	return t.remember(i)
}

// Seen implements store.Tx.
func (t *tx) Seen(beats map[providers.MachineID]time.Time) error {
	for machine, at := range beats {
		if err := t.exec("recording a heartbeat",
			"UPDATE instances SET last_seen = ? WHERE machine = ? AND machine <> ''", micros(at), string(machine)); err != nil {
			return err
		}
	}
	return nil
}
