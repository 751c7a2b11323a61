package blobs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Remote is a store of objects behind this one.
type Remote interface {
	Put(ctx context.Context, name string, body io.Reader, size int64) error
	// Get's error is ErrLost where there is none.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	// Delete of what is not there is fine.
	Delete(ctx context.Context, name string) error
}

// S3 is a bucket of a server that speaks S3.
type S3 struct {
	// Endpoint is the server's address. The bucket is the first part of the
	// path, which every such server takes.
	Endpoint *url.URL
	Region   string
	Bucket   string
	Prefix   string
	Key      aws.Credentials
	Client   *http.Client
	Now      func() time.Time
}

var _ Remote = (*S3)(nil)

// unsignedPayload leaves the body to the checksum of its name, which is checked
// when it is read.
const unsignedPayload = "UNSIGNED-PAYLOAD"

// Put writes an object.
func (s *S3) Put(ctx context.Context, name string, body io.Reader, size int64) error {
	resp, err := s.send(ctx, http.MethodPut, name, body, size)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Get reads an object.
func (s *S3) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	resp, err := s.send(ctx, http.MethodGet, name, nil, 0)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Delete removes an object.
func (s *S3) Delete(ctx context.Context, name string) error {
	resp, err := s.send(ctx, http.MethodDelete, name, nil, 0)
	if errors.Is(err, ErrLost) {
		return nil
	}
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (s *S3) send(ctx context.Context, method, name string, body io.Reader, size int64) (*http.Response, error) {
	if body != nil {
		body = io.NopCloser(body)
	}
	if size == 0 {
		body = nil
	}
	r, err := http.NewRequestWithContext(ctx, method, s.Endpoint.JoinPath(s.Bucket, s.Prefix+name).String(), body)
	if err != nil {
		return nil, err
	}
	r.ContentLength = size
	r.Header.Set("X-Amz-Content-Sha256", unsignedPayload)
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	if err := signer.SignHTTP(ctx, s.Key, r, unsignedPayload, "s3", s.Region, s.Now()); err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	resp, err := s.Client.Do(r)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusNotFound && method != http.MethodPut:
		resp.Body.Close()
		return nil, ErrLost
	case resp.StatusCode/100 != 2:
		said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		resp.Body.Close()
		return nil, fmt.Errorf("status %d: %.200q", resp.StatusCode, said)
	}
	return resp, nil
}

// fetch brings a blob's file here from the backing store, and checks it.
func (s *Store) fetch(ctx context.Context, b Blob) (_ *os.File, err error) {
	var random [8]byte
	if _, err := io.ReadFull(s.Random, random[:]); err != nil {
		return nil, fmt.Errorf("drawing a name: %w", err)
	}
	name := "fetch-" + hex.EncodeToString(random[:])
	s.take(name)
	defer s.release(name)
	f, err := os.OpenFile(s.part(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fullOr(err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // a sweep removes what stays
	defer f.Close()
	body, err := s.Remote.Get(ctx, b.fileName())
	if err != nil {
		return nil, fmt.Errorf("%w: getting an object: %w", ErrRemote, err)
	}
	defer body.Close()
	if _, err := io.Copy(f, io.LimitReader(body, b.Stored+1)); err != nil {
		return nil, fullOr(fmt.Errorf("%w: getting an object: %w", ErrRemote, err))
	}
	c, err := contentOf(f, b)
	if err == nil {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			err = check(c, b)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRemote, err)
	}
	if err := f.Sync(); err != nil {
		return nil, fullOr(err)
	}
	return s.keepFetched(ctx, b, f.Name())
}

// keepFetched makes it part of the cache, unless it was deleted meanwhile.
func (s *Store) keepFetched(ctx context.Context, b Blob, path string) (*os.File, error) {
	s.placing.Lock()
	defer s.placing.Unlock()
	if _, err := s.Get(ctx, b.SHA256); err != nil {
		return nil, err
	}
	if err := s.link(path, b); err != nil {
		return nil, fullOr(err)
	}
	f, err := os.Open(s.file(b))
	if err != nil {
		return nil, err
	}
	// What is open can be read though it is evicted.
	return f, s.evict(ctx)
}

// ParseEndpoint reads the address of a server that speaks S3.
func ParseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.User != nil || strings.Contains(u.Fragment, "#") {
		return nil, errors.New("want https://HOST or http://HOST:PORT")
	}
	return u, nil
}
