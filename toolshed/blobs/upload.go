package blobs

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"encoding/base32"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/store"
)

// Upload is a file that arrives.
type Upload struct {
	ID             string
	Length, Offset int64
	// Metadata is the header as it came.
	Metadata        string
	MediaType, Name string
	ExpiresAt       time.Time
	// Blob is what it has become; nil until it is whole.
	Blob *Hash
}

// Checksum is what a part must have.
type Checksum struct {
	Hash hash.Hash
	Want []byte
}

const uploadColumns = "id, length, offset, metadata, media_type, name, expires_at, sha256"

func scanUpload(row interface{ Scan(...any) error }) (u Upload, err error) {
	var expires int64
	var sum []byte
	err = row.Scan(&u.ID, &u.Length, &u.Offset, &u.Metadata, &u.MediaType, &u.Name, &expires, &sum)
	if err == nil && sum != nil {
		h := Hash(sum)
		u.Blob = &h
	}
	u.ExpiresAt = time.UnixMilli(expires).UTC()
	return u, err
}

// Create announces an upload of u's length, names and metadata. Errors are
// ErrQuota and store.ErrFull.
func (s *Store) Create(ctx context.Context, u Upload) (Upload, error) {
	var id [16]byte
	if _, err := io.ReadFull(s.Random, id[:]); err != nil {
		return u, fmt.Errorf("drawing an id: %w", err)
	}
	u.ID = strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(id[:]))
	u.Offset, u.ExpiresAt = 0, s.Now().Add(s.Lifetime).UTC().Truncate(time.Millisecond)
	s.placing.Lock()
	defer s.placing.Unlock()
	f, err := os.OpenFile(s.part(u.ID), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return u, fullOr(fmt.Errorf("making the file of an upload: %w", err))
	}
	if err := errors.Join(f.Close(), syncFolder(s.Path(partsFolder))); err != nil {
		return u, fullOr(fmt.Errorf("making the file of an upload: %w", err))
	}
	if err := s.DB.Update(ctx, func(tx *store.Tx) error { return s.insertUpload(tx, u) }); err != nil {
		return u, errors.Join(fmt.Errorf("creating an upload: %w", err), os.Remove(s.part(u.ID)))
	}
	return u, nil
}

func (s *Store) insertUpload(tx *store.Tx, u Upload) error {
	var kept, coming, count int64
	if err := tx.QueryRow("SELECT coalesce(sum(stored), 0) FROM blobs").Scan(&kept); err != nil {
		return err
	}
	if err := tx.QueryRow("SELECT coalesce(sum(length), 0), count(*) FROM uploads WHERE sha256 IS NULL").Scan(&coming, &count); err != nil {
		return err
	}
	// The difference cannot overflow, as the sum could.
	if u.Length > s.Quota-kept-coming {
		return fmt.Errorf("%w: %d, of which %d are kept and %d announced", ErrQuota, s.Quota, kept, coming)
	}
	if count >= MaxUploads {
		return fmt.Errorf("%w: %d uploads have not ended", ErrQuota, count)
	}
	_, err := tx.Exec("INSERT INTO uploads ("+uploadColumns+") VALUES (?, ?, 0, ?, ?, ?, ?, NULL)",
		u.ID, u.Length, u.Metadata, u.MediaType, u.Name, u.ExpiresAt.UnixMilli())
	return err
}

// Upload answers one that has not expired. The error is ErrNoUpload.
func (s *Store) Upload(ctx context.Context, id string) (u Upload, err error) {
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		u, err = scanUpload(tx.QueryRow("SELECT "+uploadColumns+" FROM uploads WHERE id = ?", id))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) || err == nil && !u.ExpiresAt.After(s.Now()) {
		return u, ErrNoUpload
	}
	if err != nil {
		return u, fmt.Errorf("reading an upload: %w", err)
	}
	return u, nil
}

// Pending counts the uploads that wait for more of them.
func (s *Store) Pending(ctx context.Context) (n int, err error) {
	err = s.DB.View(ctx, func(tx *store.Tx) error {
		return tx.QueryRow("SELECT count(*) FROM uploads WHERE sha256 IS NULL AND expires_at > ?", s.Now().UnixMilli()).Scan(&n)
	})
	if err != nil {
		return 0, fmt.Errorf("counting uploads: %w", err)
	}
	return n, nil
}

// Append adds what the body has to an upload, and makes a blob of it once it is
// whole. Without a checksum what arrives of a body that is cut off counts, with
// one it does not. Errors are ErrNoUpload, ErrBusy, ErrOffset, ErrCut,
// ErrChecksum, ErrTooMuch, ErrRemote and store.ErrFull.
func (s *Store) Append(ctx context.Context, id string, offset int64, body io.Reader, sum *Checksum) (u Upload, err error) {
	// What has arrived is kept though its sender is gone.
	kept := context.WithoutCancel(ctx)
	if !s.take(id) {
		return u, ErrBusy
	}
	defer s.release(id)
	if u, err = s.Upload(kept, id); err != nil {
		return u, err
	}
	if u.Offset != offset {
		return u, ErrOffset
	}
	if u.Blob != nil {
		return u, nil
	}
	f, err := os.OpenFile(s.part(id), os.O_RDWR, 0o600)
	if err != nil {
		return u, fmt.Errorf("%w: %w", ErrLost, err)
	}
	defer f.Close()
	p := &part{Store: s, upload: &u, file: f, sum: sum}
	if err := p.begin(); err != nil {
		return u, err
	}
	if err := p.receive(kept, body); err != nil {
		return u, fullOr(err)
	}
	if u.Offset < u.Length {
		s.leaveSums(id, p.sums)
		return u, nil
	}
	if err := s.finish(kept, &u, f, p.sums); err != nil {
		return u, fullOr(err)
	}
	return u, nil
}

// part is one body of an upload.
type part struct {
	*Store
	upload *Upload
	file   *os.File
	sums   *sums
	sum    *Checksum
}

// begin drops what arrived and was not confirmed. A file that has less than was
// confirmed is lost: it would grow by zeros.
func (p *part) begin() (err error) {
	info, err := p.file.Stat()
	if err != nil {
		return fmt.Errorf("opening an upload: %w", err)
	}
	if info.Size() < p.upload.Offset {
		return fmt.Errorf("%w: %d bytes of an upload are there, %d had arrived", ErrLost, info.Size(), p.upload.Offset)
	}
	if err := p.file.Truncate(p.upload.Offset); err != nil {
		return fmt.Errorf("opening an upload: %w", err)
	}
	if p.sums, err = p.sumsAt(p.upload.ID, p.file, p.upload.Offset); err != nil {
		return err
	}
	if _, err := p.file.Seek(p.upload.Offset, io.SeekStart); err != nil {
		return fmt.Errorf("opening an upload: %w", err)
	}
	return nil
}

func (p *part) receive(ctx context.Context, body io.Reader) error {
	to := []io.Writer{p.file, p.sums}
	if p.sum != nil {
		to = append(to, p.sum.Hash)
	}
	at, w := p.upload.Offset, io.MultiWriter(to...)
	for {
		n, err := io.CopyN(w, body, min(stepBytes, p.upload.Length-at))
		at += n
		ended := errors.Is(err, io.EOF) || at == p.upload.Length
		if p.sum == nil && n > 0 {
			if failed := p.confirm(ctx, at); failed != nil {
				return failed
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(p.giveUp(), cutOr(err))
		}
		if ended {
			break
		}
	}
	if more, _ := io.CopyN(io.Discard, body, 1); more > 0 {
		return errors.Join(p.giveUp(), ErrTooMuch)
	}
	if p.sum == nil {
		return nil
	}
	if subtle.ConstantTimeCompare(p.sum.Hash.Sum(nil), p.sum.Want) != 1 {
		return errors.Join(p.giveUp(), ErrChecksum)
	}
	return p.confirm(ctx, at)
}

// giveUp drops what is not confirmed. Its sums have more, and are not left.
func (p *part) giveUp() error { return p.file.Truncate(p.upload.Offset) }

// confirm makes what is written so far count.
func (p *part) confirm(ctx context.Context, at int64) error {
	if err := p.file.Sync(); err != nil {
		return fmt.Errorf("writing an upload: %w", err)
	}
	expires := p.Now().Add(p.Lifetime).UTC().Truncate(time.Millisecond)
	err := p.DB.Update(ctx, func(tx *store.Tx) error {
		result, err := tx.Exec("UPDATE uploads SET offset = ?, expires_at = ? WHERE id = ?", at, expires.UnixMilli(), p.upload.ID)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrNoUpload)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing an upload: %w", err)
	}
	p.upload.Offset, p.upload.ExpiresAt = at, expires
	p.signal(p.upload.ID)
	return nil
}

// Terminate ends an upload and frees its room; what it has become stays. Errors
// are ErrNoUpload and ErrBusy.
func (s *Store) Terminate(ctx context.Context, id string) error {
	if !s.take(id) {
		return ErrBusy
	}
	defer s.release(id)
	if _, err := s.Upload(ctx, id); err != nil {
		return err
	}
	return s.drop(ctx, id)
}

func (s *Store) drop(ctx context.Context, id string) error {
	s.placing.Lock()
	defer s.placing.Unlock()
	err := s.DB.Free(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM uploads WHERE id = ?", id)
		return err
	})
	if err != nil {
		return fmt.Errorf("ending an upload: %w", err)
	}
	s.dropSums(id)
	s.signal(id)
	return removeIfThere(s.part(id))
}

// Watch answers a channel that is closed when the upload changes. It is asked
// for before the upload is read.
func (s *Store) Watch(id string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed[id] == nil {
		s.changed[id] = make(chan struct{})
	}
	return s.changed[id]
}

func (s *Store) signal(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.changed[id]; c != nil {
		close(c)
		delete(s.changed, id)
	}
}

func (s *Store) part(name string) string { return filepath.Join(s.Path(partsFolder), name) }

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// fullOr is store.ErrFull where the disk is.
func fullOr(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: %w", store.ErrFull, err)
	}
	return err
}

// cutOr tells a sender that failed from a disk that did.
func cutOr(err error) error {
	if _, disk := errors.AsType[*os.PathError](err); disk {
		return err
	}
	return fmt.Errorf("%w: %w", ErrCut, err)
}
