package store

import (
	"context"
	"errors"
	"fmt"
)

// ErrQuota says that nothing was written because the database is as large as it
// may be.
var ErrQuota = errors.New("the quota is used up")

// usuallyMost is more than a write adds but for the largest: a quota is looked at
// again before so many writes could have used it up. A look costs as much as
// half a write.
const usuallyMost = 16 << 20

// Quota bounds what Grow makes of the database, in bytes; 0 is no bound.
func (db *DB) Quota() int64 { return db.schema.Quota }

// Grow is an Update of what the quota bounds. The error is ErrQuota where it would
// make a database larger that has its quota already; what fits into the pages
// that deleting left free passes.
func (db *DB) Grow(ctx context.Context, f func(*Tx) error) error {
	if db.schema.Quota > 0 {
		f = db.withinQuota(f)
	}
	return db.Update(ctx, f)
}

func (db *DB) withinQuota(f func(*Tx) error) func(*Tx) error {
	return func(t *Tx) error {
		if db.unseen > 0 {
			db.unseen--
			return f(t)
		}
		before, err := used(t)
		if err != nil {
			return err
		}
		if err := f(t); err != nil {
			return err
		}
		after, err := used(t)
		if err != nil {
			return err
		}
		if after > before && after > db.schema.Quota {
			return fmt.Errorf("%w: %s.quota_bytes is %d, and %d are used", ErrQuota, db.schema.Name, db.schema.Quota, before)
		}
		db.unseen = min(max(db.schema.Quota-after, 0)/usuallyMost, lookEvery)
		return nil
	}
}

// used is what the database holds, without the pages that are free for more.
func used(t *Tx) (bytes int64, err error) {
	err = t.QueryRow("SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size").Scan(&bytes)
	if err != nil {
		return 0, fmt.Errorf("reading what is used of the quota: %w", err)
	}
	return bytes, nil
}
