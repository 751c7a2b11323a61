package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/danielgtaylor/huma/v2"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/logentry"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

// maxReleaseBody has room for manifest, bundle and log entry in base64.
const maxReleaseBody = (release.MaxManifestBytes+release.MaxBundleBytes+logentry.MaxBytes)*4/3 + 16<<10

func (s *Server) releases(a huma.API) {
	const path = "/v1/releases"
	huma.Register(a, huma.Operation{OperationID: "list-releases", Method: http.MethodGet, Path: path, Summary: "list releases, the newest first"}, s.listReleases)
	huma.Register(a, huma.Operation{OperationID: "add-release", Method: http.MethodPost, Path: path, Summary: "add a signed release", DefaultStatus: http.StatusCreated, MaxBodyBytes: maxReleaseBody}, s.addRelease)
	huma.Register(a, huma.Operation{OperationID: "show-release", Method: http.MethodGet, Path: path + "/{digest}", Summary: "show a release"}, s.showRelease)
}

func (s *Server) listReleases(ctx context.Context, _ *struct{}) (*body[Releases], error) {
	all, err := s.allReleases(ctx)
	if err != nil {
		return nil, s.problem(err)
	}
	return &body[Releases]{Status: http.StatusOK, Body: Releases{Releases: all}}, nil
}

func (s *Server) allReleases(ctx context.Context) ([]Release, error) {
	all := []Release{}
	return all, s.Store.View(ctx, func(v store.Reader) error {
		found, err := v.Releases()
		if err != nil {
			return err
		}
		// Where there is none, none is marked.
		byDefault, err := orchestrator.DefaultRelease(found, s.DefaultRelease, s.withdrawn)
		for _, r := range found {
			view := viewRelease(r)
			view.Default, view.Withdrawn = err == nil && r.Digest == byDefault.Digest, s.withdrawn(r.Digest)
			all = append(all, view)
		}
		return nil
	})
}

func (s *Server) showRelease(ctx context.Context, in *struct {
	Digest string `path:"digest" pattern:"^[0-9a-f]{64}$"`
}) (*body[Release], error) {
	digest, err := attest.ParseReleaseDigest(in.Digest)
	if err != nil {
		return nil, problem.New(http.StatusUnprocessableEntity, "digest-invalid", err.Error())
	}
	return s.stored(ctx, digest, http.StatusOK)
}

// stored answers with a release as it is in the store, where a second time added
// changes nothing and another may have become the default.
func (s *Server) stored(ctx context.Context, digest attest.ReleaseDigest, status int) (*body[Release], error) {
	all, err := s.allReleases(ctx)
	if err != nil {
		return nil, s.problem(err)
	}
	for _, r := range all {
		if r.Digest == digest.String() {
			return &body[Release]{Status: status, Body: r}, nil
		}
	}
	return nil, s.problem(fmt.Errorf("release %s: %w", digest, orchestrator.ErrNotFound))
}

// addRelease takes the signature's word for the release, and the provider's
// for the disk: whoever uploads it compares its bytes with the manifest.
func (s *Server) addRelease(ctx context.Context, in *struct{ Body NewRelease }) (*body[Release], error) {
	r, err := s.verified(in.Body)
	if err != nil {
		return nil, s.problem(err)
	}
	if err := checkFiles(r); err != nil {
		return nil, err
	}
	if err := s.logRelease(ctx, in.Body); err != nil {
		return nil, err
	}
	if err := s.Store.Update(ctx, func(tx store.Tx) error { return errors.Join(tx.PutRelease(r), tx.Enqueue(store.Admission)) }); err != nil {
		return nil, s.problem(err)
	}
	return s.stored(ctx, r.Digest, http.StatusCreated)
}

// checkFiles wants the disk where it was said to be, and the firmware or Secure
// Boot's keys beside it.
func checkFiles(r orchestrator.Release) error {
	image, err := r.Image()
	if err != nil {
		return problem.New(http.StatusUnprocessableEntity, "release-invalid", err.Error())
	}
	if err := checkFile("disk-invalid", "disk_path", image.Path, image.Bytes); err != nil {
		return err
	}
	for _, k := range image.SecureBoot {
		if err := checkFile("keys-invalid", filepath.Base(k.Path)+" beside disk_path", k.Path, k.Bytes); err != nil {
			return err
		}
	}
	if f := image.Firmware; f != nil {
		for _, file := range []providers.File{f.Code, f.Variables} {
			what := filepath.Base(file.Path) + " beside disk_path"
			if err := checkFile("firmware-invalid", what, file.Path, file.Bytes); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkFile(code, what, path string, bytes int64) error {
	if !filepath.IsAbs(path) {
		return problem.New(http.StatusUnprocessableEntity, code, what+" is not absolute")
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return problem.New(http.StatusUnprocessableEntity, code, what+" cannot be read: "+err.Error())
	case !info.Mode().IsRegular():
		return problem.New(http.StatusUnprocessableEntity, code, what+" is no file")
	case info.Size() != bytes:
		return problem.New(http.StatusUnprocessableEntity, code,
			fmt.Sprintf("%s holds %d bytes, and the manifest says %d", what, info.Size(), bytes))
	}
	return nil
}
