package sdk

import (
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/providers"
)

// ImageInfo is what an imported image was verified to be, as a provider keeps
// it beside the image: another one of the same release is a conflict.
type ImageInfo struct {
	SHA256 attest.Digest `json:"sha256"`
	Bytes  int64         `json:"bytes"`
	// Architecture is empty for board.AMD64, which was the only one before.
	Architecture string `json:"architecture,omitempty"`
	// Firmware is the release's own; nil where it brings none.
	Firmware *FirmwareInfo `json:"firmware,omitempty"`
}

// FirmwareInfo is what an image's firmware was verified to be, and the machines
// that the release knows the registers of.
type FirmwareInfo struct {
	Code      attest.Digest `json:"code"`
	Variables attest.Digest `json:"variables"`
	Shapes    []board.Shape `json:"shapes"`
	// SecureBoot says that the firmware has it on.
	SecureBoot bool `json:"secure_boot,omitempty"`
}

// InfoOf is what an image has to be.
func InfoOf(image providers.Image) ImageInfo {
	info := ImageInfo{SHA256: image.SHA256, Bytes: image.Bytes}
	if image.Architecture != board.AMD64 {
		info.Architecture = image.Architecture
	}
	if f := image.Firmware; f != nil {
		info.Firmware = &FirmwareInfo{Code: f.Code.SHA256, Variables: f.Variables.SHA256, Shapes: f.Shapes, SecureBoot: f.SecureBoot}
	}
	return info
}

// OnlyAMD64 refuses an image for other machines, for a provider that makes none.
func OnlyAMD64(image providers.Image) error {
	if image.Architecture == "" || image.Architecture == board.AMD64 {
		return nil
	}
	return providers.Errorf(providers.CodeInvalid, "image: release %s is for %s, and machines here are %s", image.Release, image.Architecture, board.AMD64)
}
