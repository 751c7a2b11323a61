package blobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Swept is what a sweep did.
type Swept struct {
	// Expired are uploads that ended, Finished those that were whole and had
	// not become blobs, Files and Objects what no row named.
	Expired, Finished, Files, Objects int
}

// Sweep ends what has expired, finishes what a kill left whole, and removes
// what belongs to nothing.
func (s *Store) Sweep(ctx context.Context) (done Swept, err error) {
	uploads, err := s.uploads(ctx)
	if err != nil {
		return done, err
	}
	for _, u := range uploads {
		if err := s.sweepUpload(ctx, u, &done); err != nil {
			return done, err
		}
	}
	if err := s.sweepParts(ctx, &done); err != nil {
		return done, err
	}
	if err := s.sweepFiles(ctx, &done); err != nil {
		return done, err
	}
	if s.Remote == nil {
		return done, nil
	}
	if err := s.sweepObjects(ctx, &done); err != nil {
		return done, err
	}
	return done, s.evict(ctx)
}

// Run sweeps at once and then every hour, until ctx ends. Failures are told.
func (s *Store) Run(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if _, err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Store) uploads(ctx context.Context) (all []Upload, err error) {
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			u, err := scanUpload(rows)
			all = append(all, u)
			return err
		}, "SELECT "+uploadColumns+" FROM uploads")
	})
	if err != nil {
		return nil, fmt.Errorf("listing uploads: %w", err)
	}
	return all, nil
}

// sweepUpload ends an upload that expired or whose file was lost, as a restore
// from a backup loses it, and finishes one that is whole.
func (s *Store) sweepUpload(ctx context.Context, u Upload, done *Swept) error {
	info, err := os.Stat(s.part(u.ID))
	lost := u.Blob == nil && (errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() < u.Offset)
	if lost || !u.ExpiresAt.After(s.Now()) {
		err := s.Terminate(ctx, u.ID)
		if errors.Is(err, ErrNoUpload) && s.take(u.ID) {
			defer s.release(u.ID)
			err = s.drop(ctx, u.ID)
		}
		if errors.Is(err, ErrBusy) {
			return nil
		}
		done.Expired++
		return err
	}
	if u.Blob == nil && u.Offset == u.Length {
		_, err := s.Append(ctx, u.ID, u.Offset, strings.NewReader(""), nil)
		if err != nil && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrNoUpload) {
			return err
		}
		done.Finished++
	}
	return nil
}

// sweepParts removes the files of uploads that are over.
func (s *Store) sweepParts(ctx context.Context, done *Swept) error {
	s.placing.Lock()
	defer s.placing.Unlock()
	files, err := os.ReadDir(s.Path(partsFolder))
	if err != nil {
		return fmt.Errorf("listing parts: %w", err)
	}
	for _, f := range files {
		if s.inUse(f.Name()) {
			continue
		}
		u, err := s.Upload(ctx, f.Name())
		switch {
		case err == nil && u.Blob == nil:
			continue
		case err != nil && !errors.Is(err, ErrNoUpload):
			return err
		}
		if err := removeIfThere(s.part(f.Name())); err != nil {
			return fmt.Errorf("removing a part: %w", err)
		}
		done.Files++
	}
	return nil
}

// sweepFiles removes the files of blobs that are none.
func (s *Store) sweepFiles(ctx context.Context, done *Swept) error {
	return filepath.WalkDir(s.Path(Folder), func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("listing files: %w", err)
		case ctx.Err() != nil:
			return ctx.Err()
		case d.IsDir():
			return nil
		}
		s.placing.Lock()
		defer s.placing.Unlock()
		h, err := ParseHash(strings.TrimSuffix(d.Name(), ".zst"))
		if err == nil {
			var b Blob
			if b, err = s.Get(ctx, h); err == nil && b.fileName() == d.Name() {
				return nil
			}
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
		if err := removeIfThere(path); err != nil {
			return fmt.Errorf("removing a file: %w", err)
		}
		done.Files++
		return nil
	})
}

// sweepObjects settles what may be in the backing store for nothing.
func (s *Store) sweepObjects(ctx context.Context, done *Swept) error {
	var doubts []string
	err := s.DB.View(ctx, func(tx *store.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var name string
			err := rows.Scan(&name)
			doubts = append(doubts, name)
			return err
		}, "SELECT object FROM doubts")
	})
	if err != nil {
		return fmt.Errorf("listing doubts: %w", err)
	}
	for _, name := range doubts {
		content := strings.TrimSuffix(name, ".zst")
		if !s.take(content) {
			continue
		}
		err := s.settleDoubt(ctx, name)
		s.release(content)
		if err != nil {
			return err
		}
		done.Objects++
	}
	return nil
}

// settleDoubt removes an object that has no row. Its content is taken.
func (s *Store) settleDoubt(ctx context.Context, name string) error {
	h, err := ParseHash(strings.TrimSuffix(name, ".zst"))
	if err != nil {
		return err
	}
	b, err := s.Get(ctx, h)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err != nil || !b.Remote || b.fileName() != name {
		if err := s.Remote.Delete(ctx, name); err != nil {
			return fmt.Errorf("%w: deleting an object: %w", ErrRemote, err)
		}
	}
	err = s.DB.Free(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM doubts WHERE object = ?", name)
		return err
	})
	if err != nil {
		return fmt.Errorf("settling a doubt: %w", err)
	}
	return nil
}

// cached is a file that the backing store has too.
type cached struct {
	path string
	size int64
	used time.Time
}

// evict removes, of what the backing store has, the files used longest ago,
// until the rest fits.
func (s *Store) evict(ctx context.Context) error {
	var all []cached
	var sum int64
	err := filepath.WalkDir(s.Path(Folder), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all, sum = append(all, cached{path, info.Size(), info.ModTime()}), sum+info.Size()
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listing the cache: %w", err)
	}
	slices.SortFunc(all, func(a, b cached) int { return a.used.Compare(b.used) })
	for _, c := range all {
		if sum <= s.CacheBytes {
			break
		}
		h, err := ParseHash(strings.TrimSuffix(filepath.Base(c.path), ".zst"))
		if err != nil {
			continue
		}
		if b, err := s.Get(ctx, h); err != nil || !b.Remote {
			continue
		}
		if err := removeIfThere(c.path); err != nil {
			return fmt.Errorf("evicting from the cache: %w", err)
		}
		sum -= c.size
	}
	return nil
}
