package store

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// A quota stops what grows, at once where it is near and soon where it was far,
// and nothing else.
func TestQuota(t *testing.T) {
	const quota, part = 40 << 20, 1 << 20
	d, err := OpenDirectory(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := things
	s.Quota = quota
	db, err := d.Open(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(db.Close(), d.Close()); err != nil {
			t.Error(err)
		}
	}()
	put := func(do func(context.Context, func(*Tx) error) error, name string, size int) error {
		return do(t.Context(), func(tx *Tx) error {
			_, err := tx.Exec("INSERT OR REPLACE INTO things VALUES (?, 1)", name+strings.Repeat("x", size))
			return err
		})
	}
	n := 0
	for ; err == nil; n++ {
		err = put(db.Grow, string(rune('A'+n)), part/2)
	}
	// A name is in the table and in its index.
	if !errors.Is(err, ErrQuota) || n*part > quota+2*part || n*part < quota-2*part {
		t.Fatalf("%d parts, then %v", n, err)
	}
	if err := put(db.Grow, "small", 0); err != nil {
		t.Errorf("what needs no page more: %v", err)
	}
	if err := put(db.Grow, "large", part); !errors.Is(err, ErrQuota) {
		t.Errorf("one more: %v", err)
	}
	if err := put(db.Update, "large", part); err != nil {
		t.Errorf("what no quota bounds: %v", err)
	}
	err = db.Free(t.Context(), func(tx *Tx) error {
		_, err := tx.Exec("DELETE FROM things WHERE name GLOB 'large*' OR name GLOB 'A*'")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := put(db.Grow, "A", part/4); err != nil {
		t.Errorf("after making room: %v", err)
	}
}
