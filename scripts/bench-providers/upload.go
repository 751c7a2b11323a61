package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/aws"
	"github.com/toolshed-cloud/shed/providers/aws/disk"
	"github.com/toolshed-cloud/shed/providers/aws/standin"
)

const (
	uploadBlocks = 512
	uploadRounds = 5
	// uploadAtLeast is how fast an image has to be put, beside its blocks
	// alone.
	uploadAtLeast = 0.8
	uploadWithin  = 5 * time.Minute
	accessKey     = "AKIAONE"
)

// imageUpload is how fast EnsureImage is through the plugin, with all that
// belongs to it, beside its blocks put by plain requests: same server, same
// concurrency, in turns, another disk each time. Both read the disk from its
// file.
func imageUpload(ctx context.Context) (r ratio, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, uploadWithin)
	defer cancel()
	dir, err := os.MkdirTemp("", "shbp-")
	if err != nil {
		return r, false, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	p, err := openPlugin(ctx, aws.Name, dir)
	if err != nil {
		return r, false, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var plain, plugged []time.Duration
	for range uploadRounds {
		one, other, err := uploadRound(ctx, filepath.Join(dir, "disk"), p)
		if err != nil {
			return r, false, err
		}
		plain, plugged = append(plain, one), append(plugged, other)
	}
	slices.Sort(plain)
	slices.Sort(plugged)
	mib := float64(uploadBlocks*disk.BlockBytes) / (1 << 20)
	r = ratio{Value: mib / median(plugged).Seconds(), Floor: mib / median(plain).Seconds()}
	r.Ratio = r.Value / r.Floor
	fmt.Printf("image_upload: %.0f MiB in %s by the plugin, %s by plain requests (p50 of %d)\n",
		mib, median(plugged).Round(time.Millisecond), median(plain).Round(time.Millisecond), uploadRounds)
	return r, r.Ratio >= uploadAtLeast, nil
}

// uploadRound puts two disks into a server of its own, which keeps them in
// memory, and answers how long each took.
func uploadRound(ctx context.Context, path string, p providers.Provider) (plain, plugged time.Duration, err error) {
	cloud, err := standin.Start(ctx, standin.Options{
		Python: os.Getenv("SHED_MOTO"), MachineTag: aws.MachineTag, DriftTag: aws.InstallationTag, Now: time.Now,
	})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, cloud.Close()) }()
	settings := fmt.Sprintf(`{"region":"us-east-1","endpoint":%q,"access_key_id":%q,"secret_access_key":"secret"}`, cloud.URL, accessKey)
	if err := p.Configure(ctx, []byte(settings)); err != nil {
		return 0, 0, err
	}
	by := &putter{url: cloud.URL, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: disk.Workers}}}
	defer by.client.CloseIdleConnections()
	ways := []struct {
		put    func(context.Context, providers.Image) error
		blocks int
		took   time.Duration
	}{
		// The server loads its code with the first disk.
		{func(ctx context.Context, i providers.Image) error { return p.EnsureImage(ctx, i, nil) }, 1, 0},
		{by.put, uploadBlocks, 0},
		{func(ctx context.Context, i providers.Image) error { return p.EnsureImage(ctx, i, nil) }, uploadBlocks, 0},
	}
	for i := range ways {
		image, err := newDisk(path, ways[i].blocks)
		if err != nil {
			return 0, 0, err
		}
		began := time.Now()
		if err := ways[i].put(ctx, image); err != nil {
			return 0, 0, err
		}
		ways[i].took = time.Since(began)
	}
	return ways[1].took, ways[2].took, nil
}

// newDisk is one of which no block is zeros.
func newDisk(path string, blocks int) (providers.Image, error) {
	b := make([]byte, blocks*disk.BlockBytes)
	// It never fails.
	_, _ = rand.Read(b)
	sum := attest.Sum(b)
	image := providers.Image{Release: attest.ReleaseDigest(sum), Path: path, SHA256: sum, Bytes: int64(len(b))}
	return image, os.WriteFile(path, b, 0o600)
}

// putter puts blocks as EBS direct wants them, by nothing but requests.
type putter struct {
	url    string
	client *http.Client
}

// put makes a snapshot and puts a disk into it, each block with its checksum.
func (p *putter) put(ctx context.Context, image providers.Image) error {
	f, err := os.Open(image.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	var made struct{ SnapshotId string }
	if err := p.send(ctx, http.MethodPost, "/snapshots", []byte(`{"VolumeSize":1}`), nil, &made); err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(disk.Workers)
	for i := range image.Bytes / disk.BlockBytes {
		group.Go(func() error {
			b := make([]byte, disk.BlockBytes)
			if _, err := f.ReadAt(b, i*disk.BlockBytes); err != nil {
				return err
			}
			sum := sha256.Sum256(b)
			return p.send(gctx, http.MethodPut, fmt.Sprintf("/snapshots/%s/blocks/%d", made.SnapshotId, i), b, map[string]string{
				"Content-Type": "application/octet-stream", "X-Amz-Data-Length": strconv.Itoa(len(b)),
				"X-Amz-Checksum": base64.StdEncoding.EncodeToString(sum[:]), "X-Amz-Checksum-Algorithm": "SHA256",
			}, nil)
		})
	}
	return group.Wait()
}

func (p *putter) send(ctx context.Context, method, path string, body []byte, header map[string]string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	// The server reads of a signature whose it is and for which service, and
	// does not check it.
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+accessKey+"/20260101/us-east-1/ebs/aws4_request, SignedHeaders=host, Signature=none")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.200s", method, path, resp.Status, said)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(said, into)
}
