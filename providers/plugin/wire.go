package plugin

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

// errWire says that a message does not hold what the contract says.
var errWire = errors.New("malformed message")

// maxResources caps how many resources one message may name.
const maxResources = 4096

func digestFromPB(field string, b []byte) (attest.Digest, error) {
	var d attest.Digest
	if len(b) != len(d) {
		return d, fmt.Errorf("%w: %s has %d bytes, want %d", errWire, field, len(b), len(d))
	}
	copy(d[:], b)
	return d, nil
}

func infoToPB(i providers.Info) *pb.InfoResponse {
	out := &pb.InfoResponse{
		Name:            i.Name,
		Version:         i.Version,
		ContractVersion: uint32(i.ContractVersion),
		ConfigSchema:    i.ConfigSchema,
		Notes:           i.Notes,
	}
	for _, c := range i.Capabilities {
		out.Capabilities = append(out.Capabilities, string(c))
	}
	return out
}

func infoFromPB(i *pb.InfoResponse) providers.Info {
	out := providers.Info{
		Name:            i.GetName(),
		Version:         i.GetVersion(),
		ContractVersion: int(i.GetContractVersion()),
		ConfigSchema:    i.GetConfigSchema(),
		Notes:           i.GetNotes(),
	}
	for _, c := range i.GetCapabilities() {
		out.Capabilities = append(out.Capabilities, providers.Capability(c))
	}
	return out
}

func offeringsToPB(offerings []providers.Offering) *pb.OfferingsResponse {
	out := &pb.OfferingsResponse{}
	for _, o := range offerings {
		out.Offerings = append(out.Offerings, &pb.Offering{
			Region:        o.Region,
			Size:          o.Size,
			Vcpus:         int32(o.VCPUs),
			MemoryBytes:   o.MemoryBytes,
			Available:     int32(o.Available),
			MicrosPerHour: o.MicrosPerHour,
			Currency:      o.Currency,
			PricedAt:      timeToPB(o.PricedAt),
			Confidential:  o.Confidential,
		})
	}
	return out
}

// maxOfferings caps how many offerings one answer may hold: 40 regions of 250
// sizes.
const maxOfferings = 10_000

func offeringsFromPB(r *pb.OfferingsResponse) ([]providers.Offering, error) {
	if n := len(r.GetOfferings()); n > maxOfferings {
		return nil, fmt.Errorf("%w: %d offerings, at most %d", errWire, n, maxOfferings)
	}
	out := make([]providers.Offering, 0, len(r.GetOfferings()))
	for _, o := range r.GetOfferings() {
		priced, err := timeFromPB("priced_at", o.GetPricedAt())
		if err != nil {
			return nil, err
		}
		out = append(out, providers.Offering{
			Region:        o.GetRegion(),
			Size:          o.GetSize(),
			VCPUs:         int(o.GetVcpus()),
			MemoryBytes:   o.GetMemoryBytes(),
			Available:     int(o.GetAvailable()),
			MicrosPerHour: o.GetMicrosPerHour(),
			Currency:      o.GetCurrency(),
			PricedAt:      priced,
			Confidential:  o.GetConfidential(),
		})
	}
	return out, nil
}

// timeToPB leaves the zero time out.
func timeToPB(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// timeFromPB answers the zero time where there is none.
func timeFromPB(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, fmt.Errorf("%w: %s: %w", errWire, field, err)
	}
	return t.AsTime(), nil
}

func imageToPB(i providers.Image) *pb.EnsureImageRequest {
	out := &pb.EnsureImageRequest{
		Release: i.Release[:], Path: i.Path, Sha256: i.SHA256[:], Bytes: i.Bytes, Firmware: firmwareToPB(i.Firmware),
		Architecture: i.Architecture,
	}
	for _, k := range i.SecureBoot {
		out.SecureBoot = append(out.SecureBoot, &pb.Key{Name: k.Name, File: fileToPB(k.File)})
	}
	return out
}

func imageFromPB(r *pb.EnsureImageRequest) (providers.Image, error) {
	release, err := digestFromPB("release", r.GetRelease())
	if err != nil {
		return providers.Image{}, err
	}
	sum, err := digestFromPB("sha256", r.GetSha256())
	if err != nil {
		return providers.Image{}, err
	}
	image := providers.Image{Release: attest.ReleaseDigest(release), Path: r.GetPath(), SHA256: sum, Bytes: r.GetBytes(), Architecture: r.GetArchitecture()}
	for _, k := range r.GetSecureBoot() {
		file, err := fileFromPB("secure_boot.sha256", k.GetFile())
		if err != nil {
			return providers.Image{}, err
		}
		image.SecureBoot = append(image.SecureBoot, providers.Key{Name: k.GetName(), File: file})
	}
	image.Firmware, err = firmwareFromPB(r.GetFirmware())
	return image, err
}

func createToPB(r providers.CreateRequest) *pb.CreateRequest {
	return &pb.CreateRequest{
		Installation: string(r.Installation),
		Machine:      string(r.Machine),
		Generation:   r.Generation,
		Spec: &pb.Spec{
			Release:   r.Spec.Release[:],
			Region:    r.Spec.Region,
			Size:      r.Spec.Size,
			DataBytes: r.Spec.DataBytes,
			Config:    r.Spec.Config,
		},
	}
}

func createFromPB(r *pb.CreateRequest) (providers.CreateRequest, error) {
	release, err := digestFromPB("spec.release", r.GetSpec().GetRelease())
	if err != nil {
		return providers.CreateRequest{}, err
	}
	return providers.CreateRequest{
		Installation: providers.InstallationID(r.GetInstallation()),
		Machine:      providers.MachineID(r.GetMachine()),
		Generation:   r.GetGeneration(),
		Spec: providers.Spec{
			Release:   attest.ReleaseDigest(release),
			Region:    r.GetSpec().GetRegion(),
			Size:      r.GetSpec().GetSize(),
			DataBytes: r.GetSpec().GetDataBytes(),
			Config:    r.GetSpec().GetConfig(),
		},
	}, nil
}

func machineToPB(m providers.Machine) *pb.Machine {
	return &pb.Machine{
		Id:           string(m.ID),
		Installation: string(m.Installation),
		SpecHash:     m.SpecHash[:],
		Release:      m.Release[:],
		Power:        string(m.Power),
		Endpoint:     m.Endpoint,
		Resources:    resourcesToPB(m.Resources),
		CreatedAt:    timestamppb.New(m.CreatedAt),
		Reason:       m.Reason,
		Generation:   m.Generation,
		Region:       m.Region,
		Size:         m.Size,
		Drift:        m.Drift,
	}
}

func machineFromPB(m *pb.Machine) (providers.Machine, error) {
	hash, err := digestFromPB("spec_hash", m.GetSpecHash())
	if err != nil {
		return providers.Machine{}, err
	}
	release, err := digestFromPB("release", m.GetRelease())
	if err != nil {
		return providers.Machine{}, err
	}
	resources, err := resourcesFromPB(m.GetResources())
	if err != nil {
		return providers.Machine{}, err
	}
	power := providers.Power(m.GetPower())
	switch power {
	case providers.PowerOn, providers.PowerOff, providers.PowerPending, providers.PowerCrashed:
	default:
		return providers.Machine{}, fmt.Errorf("%w: power %q is unknown", errWire, power)
	}
	created, err := timeFromPB("created_at", m.GetCreatedAt())
	if err != nil {
		return providers.Machine{}, err
	}
	return providers.Machine{
		ID:           providers.MachineID(m.GetId()),
		Installation: providers.InstallationID(m.GetInstallation()),
		SpecHash:     hash,
		Release:      attest.ReleaseDigest(release),
		Power:        power,
		Endpoint:     m.GetEndpoint(),
		Resources:    resources,
		CreatedAt:    created,
		Reason:       m.GetReason(),
		Generation:   m.GetGeneration(),
		Region:       m.GetRegion(),
		Size:         m.GetSize(),
		Drift:        m.GetDrift(),
	}, nil
}

func resourcesToPB(resources []providers.Resource) []*pb.Resource {
	out := make([]*pb.Resource, 0, len(resources))
	for _, r := range resources {
		out = append(out, &pb.Resource{Kind: string(r.Kind), Id: r.ID, Machine: string(r.Machine), Bytes: r.Bytes})
	}
	return out
}

func resourcesFromPB(resources []*pb.Resource) ([]providers.Resource, error) {
	if len(resources) > maxResources {
		return nil, fmt.Errorf("%w: %d resources, at most %d", errWire, len(resources), maxResources)
	}
	var out []providers.Resource
	for _, r := range resources {
		out = append(out, providers.Resource{
			Kind:    providers.ResourceKind(r.GetKind()),
			ID:      r.GetId(),
			Machine: providers.MachineID(r.GetMachine()),
			Bytes:   r.GetBytes(),
		})
	}
	return out, nil
}
