package sqlite_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/toolshed-cloud/shed/attest/auditlog"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
)

// Results make one chain, whichever transaction appends them, and a transaction
// that fails leaves no gap.
func TestResultsAreAChain(t *testing.T) {
	s := open(t, t.TempDir())
	if head := view(t, s, store.Reader.ResultsHead); head != (auditlog.Head{}) {
		t.Errorf("an empty chain has head %+v", head)
	}
	entry := func(n int) auditlog.Entry {
		return auditlog.Entry{Index: 77, At: int64(n) + 1, Instance: fmt.Sprintf("i%d", n%2), Machine: "m", EAR: "e"}
	}
	lost := errors.New("lost")
	for n := range 5 {
		update(t, s, func(tx store.Tx) error { return tx.AppendResult(entry(n)) })
		if err := s.Update(t.Context(), func(tx store.Tx) error { return errors.Join(tx.AppendResult(entry(n)), lost) }); !errors.Is(err, lost) {
			t.Fatal(err)
		}
	}
	all := view(t, s, func(v store.Reader) ([]auditlog.Record, error) { return v.Results(0, 100) })
	var head auditlog.Head
	for _, record := range all {
		next, err := head.Next(&record.Entry)
		if err != nil || next.Hash != record.Hash {
			t.Errorf("entry %d has hash %s, want %s, %v", record.Index, record.Hash, next.Hash, err)
		}
		head = next
	}
	if got := view(t, s, store.Reader.ResultsHead); got != head || head.Count != 5 {
		t.Errorf("head %+v, want %+v", got, head)
	}
	page := view(t, s, func(v store.Reader) ([]auditlog.Record, error) { return v.Results(3, 1) })
	if len(page) != 1 || page[0].Index != 3 {
		t.Errorf("a page from 3 of 1 is %+v", page)
	}
	last := view(t, s, func(v store.Reader) (auditlog.Record, error) { return v.LastResult("i1") })
	if last.Index != 3 {
		t.Errorf("the last of i1 is %d", last.Index)
	}
	err := s.View(t.Context(), func(v store.Reader) error { _, err := v.LastResult("nobody"); return err })
	if !errors.Is(err, orchestrator.ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
}
