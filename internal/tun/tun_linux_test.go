package tun

import (
	"strings"
	"testing"
)

func TestConfigValidate(t *testing.T) {
	for _, tt := range []struct {
		cfg Config
		ok  bool
	}{
		{Config{}, true},
		{Config{Name: "n6", MTU: 1456}, true},
		{Config{Name: strings.Repeat("x", 15), MTU: 65535}, true},
		{Config{Name: strings.Repeat("x", 16)}, false},
		{Config{MTU: 67}, false},
		{Config{MTU: 65536}, false},
		{Config{MTU: -1}, false},
	} {
		if err := tt.cfg.Validate(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v, want ok %v", tt.cfg, err, tt.ok)
		}
	}
}
