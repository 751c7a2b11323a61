package blobs

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"

	"github.com/zeebo/blake3"
)

// maxHashing bounds the sums that are kept between two parts of an upload.
const maxHashing = 32

// sums are the two hashes of what has arrived.
type sums struct {
	sha256 hash.Hash
	blake3 *blake3.Hasher
	n      int64
}

func newSums() *sums { return &sums{sha256: sha256.New(), blake3: blake3.New()} }

func (s *sums) Write(b []byte) (int, error) {
	// Neither fails.
	_, _ = s.sha256.Write(b)
	_, _ = s.blake3.Write(b)
	s.n += int64(len(b))
	return len(b), nil
}

func (s *sums) both() (sha, blake Hash) {
	return Hash(s.sha256.Sum(nil)), Hash(s.blake3.Sum(nil))
}

// sumsAt are those of the first n bytes of an upload: as they were left, or
// from the file where they were not.
func (s *Store) sumsAt(id string, f io.ReaderAt, n int64) (*sums, error) {
	s.mu.Lock()
	kept := s.hashing[id]
	delete(s.hashing, id)
	s.mu.Unlock()
	if kept != nil && kept.n == n {
		return kept, nil
	}
	fresh := newSums()
	if _, err := io.Copy(fresh, io.NewSectionReader(f, 0, n)); err != nil {
		return nil, fmt.Errorf("reading what has arrived: %w", err)
	}
	return fresh, nil
}

// leaveSums keeps them for the next part.
func (s *Store) leaveSums(id string, kept *sums) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.hashing) < maxHashing {
		s.hashing[id] = kept
	}
}

func (s *Store) dropSums(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.hashing, id)
}
