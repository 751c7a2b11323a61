package plugin

import (
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
	"github.com/toolshed-cloud/shed/providers/plugin/pb"
)

func firmwareToPB(f *providers.Firmware) *pb.Firmware {
	if f == nil {
		return nil
	}
	out := &pb.Firmware{Code: fileToPB(f.Code), Variables: fileToPB(f.Variables), SecureBoot: f.SecureBoot}
	for _, s := range f.Shapes {
		out.Shapes = append(out.Shapes, &pb.Shape{Vcpus: int32(s.VCPUs), MemoryBytes: s.MemoryBytes}) //nolint:gosec // a shape has 64 at most
	}
	return out
}

func firmwareFromPB(f *pb.Firmware) (*providers.Firmware, error) {
	if f == nil {
		return nil, nil //nolint:nilnil // no firmware is a value
	}
	out := providers.Firmware{SecureBoot: f.GetSecureBoot()}
	var err error
	if out.Code, err = fileFromPB("firmware.code.sha256", f.GetCode()); err != nil {
		return nil, err
	}
	if out.Variables, err = fileFromPB("firmware.variables.sha256", f.GetVariables()); err != nil {
		return nil, err
	}
	for _, s := range f.GetShapes() {
		out.Shapes = append(out.Shapes, board.Shape{VCPUs: int(s.GetVcpus()), MemoryBytes: s.GetMemoryBytes()})
	}
	return &out, nil
}

func fileToPB(f providers.File) *pb.File {
	return &pb.File{Path: f.Path, Sha256: f.SHA256[:], Bytes: f.Bytes}
}

func fileFromPB(field string, f *pb.File) (providers.File, error) {
	sum, err := digestFromPB(field, f.GetSha256())
	return providers.File{Path: f.GetPath(), SHA256: sum, Bytes: f.GetBytes()}, err
}
