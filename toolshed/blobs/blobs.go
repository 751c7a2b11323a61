// Package blobs keeps files by their content.
//
// Invariants: a blob is whole, under the SHA-256 of its bytes, and never
// changes; what an upload was told to have arrived is on the disk; a file that
// no row of the database names is swept away, and none is named before it is
// whole; a file in the folder Folder has its final content once it has its
// name; a blob that a site shows is not deleted.
package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// The folders in the data directory: Folder has the files of blobs, whose
// content never changes under their names, partsFolder what is not whole yet.
const (
	Folder      = "blobs"
	partsFolder = "uploads"
)

// The bounds of what is taken.
const (
	MaxNameBytes     = 255
	MaxMetadataBytes = 4 << 10
	MaxUploads       = 256
	MaxSites         = 64
	MaxSiteFiles     = 5000
	// stepBytes is how much of an upload arrives before it is on the disk.
	stepBytes = 8 << 20
)

// Schema is what the database of this API holds.
var Schema = store.Schema{Name: "blobs", Migrations: []store.Migration{store.Statements(`
	CREATE TABLE blobs (
		sha256     BLOB PRIMARY KEY,
		blake3     BLOB NOT NULL UNIQUE,
		size       INTEGER NOT NULL,
		stored     INTEGER NOT NULL,
		packed     INTEGER NOT NULL,
		remote     INTEGER NOT NULL,
		media_type TEXT NOT NULL,
		name       TEXT NOT NULL,
		created_at INTEGER NOT NULL
	) STRICT;
	CREATE INDEX blobs_created ON blobs (created_at DESC, sha256);
	CREATE TABLE uploads (
		id         TEXT PRIMARY KEY,
		length     INTEGER NOT NULL,
		offset     INTEGER NOT NULL,
		metadata   TEXT NOT NULL,
		media_type TEXT NOT NULL,
		name       TEXT NOT NULL,
		expires_at INTEGER NOT NULL,
		sha256     BLOB
	) STRICT;
	CREATE TABLE doubts (
		object TEXT PRIMARY KEY
	) STRICT;
	CREATE TABLE sites (
		name       TEXT PRIMARY KEY,
		public     INTEGER NOT NULL,
		updated_at INTEGER NOT NULL
	) STRICT;
	CREATE TABLE site_files (
		site   TEXT NOT NULL REFERENCES sites (name) ON DELETE CASCADE,
		path   TEXT NOT NULL,
		sha256 BLOB NOT NULL REFERENCES blobs (sha256),
		PRIMARY KEY (site, path)
	) STRICT, WITHOUT ROWID;
	CREATE INDEX site_files_sha256 ON site_files (sha256)`)}}

// The sentinels of the store.
var (
	ErrNotFound = errors.New("no such blob")
	ErrNoUpload = errors.New("no such upload")
	ErrNoSite   = errors.New("no such site")
	// ErrQuota says that no more is kept.
	ErrQuota = errors.New("the blobs have as many bytes as they may")
	// ErrUsed says that a site shows the blob.
	ErrUsed = errors.New("a site shows this blob")
	// ErrBusy says that another request has the upload.
	ErrBusy = errors.New("another request is writing this upload")
	// ErrOffset says that the upload is not where the caller believes.
	ErrOffset = errors.New("the upload is at another offset")
	// ErrChecksum says that what arrived is not what was sent.
	ErrChecksum = errors.New("the checksum does not match")
	// ErrCut says that the body ended early; what arrived is kept.
	ErrCut = errors.New("the body did not arrive whole")
	// ErrTooMuch says that the body has more than the upload lacks.
	ErrTooMuch = errors.New("the body has more bytes than the upload lacks")
	// ErrRemote says that the backing store failed.
	ErrRemote = errors.New("the backing store failed")
	// ErrLost says that the file of a blob is missing or damaged.
	ErrLost = errors.New("the blob's file is missing or damaged")
)

// Hash names a blob by its bytes.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads a hash in hex.
func ParseHash(text string) (h Hash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, errors.New("it is no hash of 32 bytes in hex")
	}
	return Hash(b), nil
}

// Blob is one that is kept.
type Blob struct {
	SHA256, BLAKE3 Hash
	// Size is of its bytes, Stored of the file that holds them.
	Size, Stored int64
	// Packed says that the file is compressed, Remote that the backing store
	// has it.
	Packed, Remote bool
	MediaType      string
	Name           string
	CreatedAt      time.Time
}

// fileName is the file's name, here and in the backing store.
func (b Blob) fileName() string {
	if b.Packed {
		return b.SHA256.String() + ".zst"
	}
	return b.SHA256.String()
}

// Options is what a store works with.
type Options struct {
	DB     *store.DB
	Now    func() time.Time
	Random io.Reader
	// Path is the data directory's.
	Path func(name string) string
	// Quota bounds the bytes of all blobs and of what uploads have announced.
	Quota int64
	// Lifetime is how long an upload waits for its next part.
	Lifetime time.Duration
	// Remote keeps what is here too; nil for none. CacheBytes bounds what is
	// kept here beside it.
	Remote     Remote
	CacheBytes int64
	// Publish passes on an Uploaded; nil for nobody.
	Publish func(any)
}

// Uploaded is what is passed on of an upload that is whole.
type Uploaded struct {
	SHA256    string `json:"sha256"`
	Size      int64  `json:"size_bytes"`
	MediaType string `json:"media_type"`
	Name      string `json:"name,omitempty"`
}

// Store keeps blobs, uploads and sites.
type Store struct {
	Options

	// placing is held while a file and its row come into being or go, so that
	// a sweep sees both or neither.
	placing sync.Mutex

	// mu guards what follows.
	mu sync.Mutex
	// busy are the uploads that a request has, and the names of temporary
	// files.
	busy map[string]bool
	// hashing are the sums of uploads so far; one that is missing is made anew
	// from the file.
	hashing map[string]*sums
	// changed wakes those who watch an upload.
	changed map[string]chan struct{}
}

var _ mount.Reporter = (*Store)(nil)

// New makes the folders and answers a store on them.
func New(o Options) (*Store, error) {
	for _, folder := range []string{Folder, partsFolder} {
		if err := os.MkdirAll(o.Path(folder), 0o700); err != nil {
			return nil, fmt.Errorf("making the folder of blobs: %w", err)
		}
	}
	return &Store{Options: o, busy: map[string]bool{}, hashing: map[string]*sums{}, changed: map[string]chan struct{}{}}, nil
}

// take marks a name as in use. It answers false where it is already.
func (s *Store) take(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[name] {
		return false
	}
	s.busy[name] = true
	return true
}

// takeTurn is take, once whoever has the name has released it. The error is
// ErrBusy where ctx ends before.
func (s *Store) takeTurn(ctx context.Context, name string) error {
	for {
		released := s.Watch(turn(name))
		if s.take(name) {
			return nil
		}
		select {
		case <-released:
		case <-ctx.Done():
			return ErrBusy
		}
	}
}

// turn is what tells of the release of a name.
func turn(name string) string { return "turn " + name }

func (s *Store) release(name string) {
	s.mu.Lock()
	delete(s.busy, name)
	s.mu.Unlock()
	s.signal(turn(name))
}

func (s *Store) inUse(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy[name]
}
