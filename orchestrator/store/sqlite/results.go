package sqlite

import (
	"database/sql"
	"fmt"
	"math"

	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// ResultsHead implements store.Reader.
func (r *reader) ResultsHead() (auditlog.Head, error) {
	found, err := r.results("ORDER BY seq DESC LIMIT 1")
	if err != nil || len(found) == 0 {
		return auditlog.Head{}, err
	}
	return auditlog.Head{Count: found[0].Index + 1, Hash: found[0].Hash}, nil
}

// Results implements store.Reader.
func (r *reader) Results(from uint64, limit int) ([]auditlog.Record, error) {
	if from > math.MaxInt64 {
		return nil, nil
	}
	return r.results("WHERE seq >= ? ORDER BY seq LIMIT ?", int64(from), limit)
}

// LastResult implements store.Reader.
func (r *reader) LastResult(of orchestrator.InstanceID) (auditlog.Record, error) {
	found, err := r.results("WHERE instance = ? ORDER BY seq DESC LIMIT 1", string(of))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("result of instance %s: %w", of, orchestrator.ErrNotFound)
	}
	if err != nil {
		return auditlog.Record{}, err
	}
	return found[0], nil
}

func (r *reader) results(rest string, args ...any) ([]auditlog.Record, error) {
	var all []auditlog.Record
	scan := func(rows *sql.Rows) error {
		var record auditlog.Record
		var hash string
		if err := rows.Scan(&record.Index, &record.At, &record.Instance, &record.Machine, &record.EAR, &hash); err != nil {
			return err
		}
		all = append(all, record)
		return all[len(all)-1].Hash.UnmarshalText([]byte(hash))
	}
	return all, r.each("results", scan, "SELECT seq, at, instance, machine, ear, hash FROM results "+rest, args...)
}

// AppendResult implements store.Tx. Transactions run one after another, so the
// head that is read here is the one that the entry stands behind.
func (t *tx) AppendResult(e auditlog.Entry) error {
	head, err := t.ResultsHead()
	if err != nil {
		return err
	}
	e.Index = head.Count
	next, err := head.Next(&e)
	if err != nil {
		return fmt.Errorf("recording a result: %w", err)
	}
	return t.exec("recording a result", "INSERT INTO results (seq, at, instance, machine, ear, hash) VALUES (?, ?, ?, ?, ?, ?)",
		int64(e.Index), e.At, e.Instance, e.Machine, e.EAR, next.Hash.String())
}
