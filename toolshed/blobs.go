package toolshed

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/toolshed/blobs"
	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/fetch"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// blobsSection is the part of the configuration about blobs.
type blobsSection struct {
	QuotaBytes     int64         `yaml:"quota_bytes"`
	UploadLifetime time.Duration `yaml:"upload_lifetime"`
	CacheBytes     int64         `yaml:"cache_bytes"`
	S3             *s3Section    `yaml:"s3"`
}

type s3Section struct {
	Endpoint  string        `yaml:"endpoint"`
	Region    string        `yaml:"region"`
	Bucket    string        `yaml:"bucket"`
	Prefix    string        `yaml:"prefix"`
	KeyID     config.Secret `yaml:"access_key_id"`
	SecretKey config.Secret `yaml:"secret_access_key"`
}

func (r *Root) openBlobs(ctx context.Context) error {
	section := blobsSection{QuotaBytes: 64 << 30, UploadLifetime: 24 * time.Hour, CacheBytes: 8 << 30}
	if err := r.Config.Section("blobs", &section); err != nil {
		return err
	}
	if section.QuotaBytes <= 0 || section.UploadLifetime <= 0 || section.CacheBytes < 0 {
		return fmt.Errorf("%w: blobs: quota_bytes, upload_lifetime and cache_bytes are positive", config.ErrConfig)
	}
	remote, err := r.backingStore(section.S3)
	if err != nil {
		return err
	}
	db, err := r.open(ctx, blobs.Schema)
	if err != nil {
		return err
	}
	kept, err := blobs.New(blobs.Options{
		DB: db, Now: r.Now, Random: r.Random, Path: r.Data.Path, Quota: section.QuotaBytes, Lifetime: section.UploadLifetime,
		Remote: remote, CacheBytes: section.CacheBytes, Publish: r.publisher("blobs"),
	})
	if err != nil {
		return err
	}
	r.blobs = kept
	r.folders = append(r.folders, blobs.Folder)
	r.sweepBlobs(kept)
	m := r.mount("blobs", blobs.Limits)
	blobs.Register(m, kept)
	r.openSites(kept, m)
	return nil
}

// sweepBlobs sweeps until the root is closed.
func (r *Root) sweepBlobs(kept *blobs.Store) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		kept.Run(ctx, func(err error) { r.Log.Warn("sweeping blobs", zap.Error(err)) })
	}()
	r.closers = append(r.closers, func() error { stop(); <-ended; return nil })
}

// openSites has the hosts of sites answered by them alone.
func (r *Root) openSites(kept *blobs.Store, m *mount.Mount) {
	site := r.site
	site.Mux = http.NewServeMux()
	blobs.RegisterHosts(site.New("sites", blobs.Limits), kept)
	sites := m.Owning(problem.Unrouted(site.Mux))
	r.origins = append(r.origins, func(req *http.Request) http.Handler {
		if blobs.SiteOf(req) == "" {
			return nil
		}
		return sites
	})
}

func (r *Root) backingStore(s *s3Section) (blobs.Remote, error) {
	if s == nil {
		return nil, nil
	}
	endpoint, err := blobs.ParseEndpoint(s.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("%w: blobs.s3.endpoint: %w", config.ErrConfig, err)
	}
	if s.Bucket == "" || strings.ContainsAny(s.Bucket, "/?#") {
		return nil, fmt.Errorf("%w: blobs.s3.bucket: want a bucket's name", config.ErrConfig)
	}
	id, err := r.Config.Secret(s.KeyID)
	if err != nil {
		return nil, fmt.Errorf("blobs.s3.access_key_id: %w", err)
	}
	secret, err := r.Config.Secret(s.SecretKey)
	if err != nil {
		return nil, fmt.Errorf("blobs.s3.secret_access_key: %w", err)
	}
	return &blobs.S3{
		Endpoint: endpoint, Region: cmp.Or(s.Region, "us-east-1"), Bucket: s.Bucket, Prefix: s.Prefix, Now: r.Now,
		Key:    aws.Credentials{AccessKeyID: id, SecretAccessKey: secret},
		Client: r.fetch.Client(fetch.Limits{Bytes: math.MaxInt64 / 2}),
	}, nil
}
