package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/attest/release"
	"github.com/toolshed-cloud/shed/orchestrator"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
	"github.com/toolshed-cloud/shed/orchestrator/store"
	"github.com/toolshed-cloud/shed/providers"
)

func (s *Server) updates(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "offer-update", Method: http.MethodPost, Path: "/v1/instances/{id}/update", DefaultStatus: http.StatusAccepted,
		Summary: "offer an instance's machine another release",
		Description: "The machine hears of the release and takes it only with its owner's approval, or under a policy that its owner signed. " +
			"No call does more than offer. The release that the machine runs takes the offer of another back, " +
			"and is offered by itself where it changes one of Secure Boot's variables, which the owner approves too.",
	}, s.offer)
}

type offerInput struct {
	ID   string `path:"id" pattern:"^[a-z2-7]{26}$"`
	Body adminclient.NewUpdate
}

func (s *Server) offer(ctx context.Context, in *offerInput) (*body[Instance], error) {
	var to providers.MachineID
	out, err := s.change(ctx, in.ID, func(tx store.Tx, id orchestrator.InstanceID) error {
		rel, err := s.toOffer(tx, in.Body.Release)
		if err != nil {
			return err
		}
		i, err := tx.Instance(id)
		if err != nil {
			return err
		}
		if err := s.follows(tx, i, rel); err != nil {
			return err
		}
		e, ok, err := offerTo(&i, rel, s.Clock())
		if !ok || err != nil {
			return err
		}
		to = i.Machine
		return errors.Join(tx.Replace(&i), tx.Note(e))
	})
	if err == nil && to != "" {
		s.Offered(to)
	}
	return out, err
}

// offerTo offers a release, or of the one that the machine runs the change of Secure
// Boot's variables.
func offerTo(i *orchestrator.Instance, rel orchestrator.Release, now time.Time) (orchestrator.Event, bool, error) {
	if i.Runs() == rel.Digest {
		m, err := release.ParseManifest(rel.Manifest)
		if err != nil {
			return orchestrator.Event{}, false, fmt.Errorf("reading the manifest of release %s: %w", rel.Digest, err)
		}
		if m.SecureBootChange != nil {
			return i.OfferChange(rel, now)
		}
	}
	return i.Offer(rel, now)
}

// toOffer is the release of a digest, the default one for none.
func (s *Server) toOffer(v store.Reader, text string) (orchestrator.Release, error) {
	if text != "" {
		digest, err := attest.ParseReleaseDigest(text)
		if err != nil {
			return orchestrator.Release{}, problem.New(http.StatusUnprocessableEntity, "digest-invalid", err.Error())
		}
		return v.Release(digest)
	}
	all, err := v.Releases()
	if err != nil {
		return orchestrator.Release{}, err
	}
	return orchestrator.DefaultRelease(all, s.DefaultRelease, s.withdrawn)
}

func (s *Server) withdrawn(digest attest.ReleaseDigest) bool {
	return s.Log != nil && s.Log.Withdrawn(digest)
}

// follows refuses a release that a machine would refuse whatever its owner says: it
// is told here, and not a day later.
func (s *Server) follows(v store.Reader, i orchestrator.Instance, next orchestrator.Release) error {
	if i.Runs().IsZero() {
		return nil
	}
	gets, err := release.ParseManifest(next.Manifest)
	if err != nil {
		return fmt.Errorf("reading the manifest of release %s: %w", next.Digest, err)
	}
	if i.Runs() == next.Digest && (gets.SecureBootChange == nil || i.Update.Stands()) {
		return nil
	}
	refused := func(code, format string, args ...any) error {
		return problem.New(http.StatusConflict, code, fmt.Sprintf("release %s (%.16s) ", next.Version, next.Digest)+fmt.Sprintf(format, args...))
	}
	if s.withdrawn(next.Digest) {
		return refused("release-withdrawn", "was withdrawn")
	}
	now, err := v.Release(i.Runs())
	if err != nil {
		return err
	}
	if next.Epoch < now.Epoch {
		return refused("release-older", "has epoch %d, and the machine runs one of epoch %d", next.Epoch, now.Epoch)
	}
	has, err := release.ParseManifest(now.Manifest)
	if err != nil {
		return fmt.Errorf("reading the manifest of release %s: %w", now.Digest, err)
	}
	switch {
	case gets.Architecture != has.Architecture:
		return refused("release-architecture", "is for %s, and the machine is %s", gets.Architecture, has.Architecture)
	case firmwareOf(gets) != firmwareOf(has):
		return refused("release-firmware", "has other firmware, which an update in place does not change")
	}
	for _, f := range gets.ServedFiles() {
		path := filepath.Join(filepath.Dir(next.DiskPath), f.Name)
		if err := checkFile("update-file", f.Name+" beside disk_path", path, f.Bytes); err != nil {
			return refused("release-incomplete", "cannot be fetched: %v", err)
		}
	}
	return nil
}

// firmwareOf is what a release's firmware is told by; empty for one without.
func firmwareOf(m *release.Manifest) string {
	if m.Firmware == nil {
		return ""
	}
	return fmt.Sprintf("%s %v", m.Firmware.Code.SHA256, m.Firmware.SecureBoot)
}

// takeBack ends the offers of a release that was withdrawn. What is not written here
// is taken back with the machine's next heartbeat.
func (s *Server) takeBack(ctx context.Context, digest attest.ReleaseDigest) {
	err := s.Store.Update(ctx, func(tx store.Tx) error {
		all, err := tx.Instances(store.Filter{})
		if err != nil {
			return err
		}
		for _, i := range all {
			e, ok := i.TakeBack(digest, s.Clock())
			if !ok {
				continue
			}
			if err := errors.Join(tx.Replace(&i), tx.Note(e)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.Logger.Error("taking the offers of a withdrawn release back", zap.Stringer("release", digest), zap.Error(err))
	}
}

// viewUpdate shows the last offer; nil where there was none.
func viewUpdate(u orchestrator.Update) *adminclient.Update {
	if u.Release.IsZero() {
		return nil
	}
	v := &adminclient.Update{Release: u.Release.String(), Attempt: u.Attempt, Step: string(u.Step), Reason: string(u.Reason)}
	switch {
	case u.TakenBack && !u.Step.Ended():
		v.Step = adminclient.UpdateTakenBack
	case u.Step == "":
		v.Step = adminclient.UpdateOffered
	}
	return v
}
