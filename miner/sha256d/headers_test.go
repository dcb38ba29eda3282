package sha256d

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/miner/work"
)

// realHeaders are headers of Bitcoin blocks, with the hash the network knows
// them by, in the usual reversed notation. Those after block 600,000 were found
// by miners that roll versions.
var realHeaders = []struct{ name, header, hash string }{
	{
		"block 0",
		"0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c",
		"000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
	},
	{
		"block 1",
		"010000006fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000982051fd1e4ba744bbbe680e1fee14677ba1a3c3540bf7b1cdb606e857233e0e61bc6649ffff001d01e36299",
		"00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048",
	},
	{
		"block 100,000",
		"0100000050120119172a610421a6c3011dd330d9df07b63616c2cc1f1cd00200000000006657a9252aacd5c0b2940996ecff952228c3067cc38d4885efb5a4ac4247e9f337221b4d4c86041b0f2b5710",
		"000000000003ba27aa200b1cecaad478d2b00432346c3f1f3986da1afd33e506",
	},
	{
		"block 125,552",
		"0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122bc7f5d74df2b9441a42a14695",
		"00000000000000001e8d6829a8a21adc5d38d0a473b144b6765798e61f98bd1d",
	},
	{
		"a block of November 2014, version 2",
		"02000000b6ff0b1b1680a2862a30ca44d346d9e8910d334beb48ca0c00000000000000009d10aa52ee949386ca9385695f04ede270dda20810decd12bc9b048aaab3147124d95a5430c31b18fe9f0864",
		"000000000000000009a11b3972c8e532fe964de937c9e0096b43814e67af3728",
	},
	{
		"block 631,076",
		"00000020802cb8f913050c95fdeaffdf45605a17d09ba2d6121e06000000000000000000b66e299fce5925442281461266a189bd786db1013093cebaa84ab1666c75f5184959c55ef6971217a26a25ae",
		"00000000000000000007171457f3352e101d92bca75f055c330fe33e84bb183b",
	},
	{
		"block 677,119",
		"00e0ff3fdac23084f96460979c3d18a0d6e888c8a6dd6eaa32ec0a000000000000000000378f9f5b196b76e5a44c32de43503f2ff5b50a159676833551dd4b7c469f4cd1b73764606fdf0c1700f6b6da",
		"000000000000000000046b9302e08c16ea186950f42a5498320ddd1bd7ab3428",
	},
	{
		"block 791,846",
		"0000ff3f505ee0ee9ee8889bf21c327d51e4a82998db18dccd8a03000000000000000000d5f245870a7c8a97ee7c691b6e6e8f8b20279b5980a205cbabce0b86bbf41b81a8cd73643aae05179a93347b",
		"0000000000000000000458e426948dec172ee891fd6684bcd24bb331819cc5a8",
	},
	{
		"block 956,479",
		"00200220d8483fbd5d624b2bc7e9fb2c1055d57b7b0e5853f70a00000000000000000000cf45ca87caf53f6c9569cfe58a1706d74690a1894dc1e21fe493e5fe62010eef517e476a421a02172a398bc2",
		"000000000000000000005af9d7cca01756b552b02e5f5fac6422864439807264",
	},
	{
		"test-net block 2,443,258",
		"0000e02034820f50d9e27963de75f978aa82d02f9c4657edca02dfd7b5190000000000001003fe0e165a9e0f7b87941c0994b1382aaeba9024306c2ca7ce7eb6b41285029342bc64f89524192aa87f6c",
		"0000000000000013d40d7e4cfd271c223c93c134065e3fc857a3adf077da3dda",
	},
}

// TestFindsRealBlocks: every kernel finds the nonce and version of real blocks,
// for the block's own target and for easier ones, among versions rolled under
// different masks.
func TestFindsRealBlocks(t *testing.T) {
	for _, r := range realHeaders {
		raw, err := hex.DecodeString(r.header)
		if err != nil {
			t.Fatal(err)
		}
		h := work.Header(raw)
		hash := h.Hash()
		slices.Reverse(hash[:])
		if got := hex.EncodeToString(hash[:]); got != r.hash {
			t.Fatalf("%s: the network knows it as %s, its header hashes to %s", r.name, r.hash, got)
		}
		found := Hit{binary.LittleEndian.Uint32(h[0:]), binary.LittleEndian.Uint32(h[76:])}
		own := compactTarget(binary.LittleEndian.Uint32(h[72:]))
		for _, target := range []struct {
			name   string
			target work.Target
		}{{"its own target", own}, {"difficulty 1", work.TargetFromDifficulty(1)}, {"difficulty 1/8192", work.TargetFromDifficulty(1. / 8192)}} {
			for _, mask := range []uint32{0, 0x1fffe000, 0x1fffffe0, 0x00ffe000, 0x10204080} {
				t.Run(fmt.Sprintf("%s/%s/mask %08x", r.name, target.name, mask), func(t *testing.T) {
					eachKernel(t, func(t *testing.T, k Kernel) {
						w := Work{Header: h, Versions: rolled(found.Version, mask, k.Lanes), Target: target.target}
						const before, n = 500, 1000
						want := reference(&w, found.Nonce-before, n)
						if !slices.Contains(want, found) {
							t.Fatal("the reference does not find the block")
						}
						s := NewScanner(k)
						if err := s.Prepare(&w); err != nil {
							t.Fatal(err)
						}
						_, hits := s.Scan(found.Nonce-before, n, nil)
						sortHits(hits)
						if diff := cmp.Diff(want, hits); diff != "" {
							t.Fatal(diff)
						}
					})
				})
			}
		}
	}
}

// rolled returns up to n versions that differ in bits of the mask only, the
// given one somewhere among them.
func rolled(version, mask uint32, n int) []uint32 {
	versions := []uint32{version}
	for bits := (version - 1) & mask; len(versions) < n && bits != version&mask; bits = (bits - 1) & mask {
		versions = append(versions, version&^mask|bits)
	}
	// Away from the first lane, where a mistake in the order of lanes would not show.
	i := 7 % len(versions)
	versions[0], versions[i] = versions[i], versions[0]
	return versions
}

// compactTarget expands a header's bits (Bitcoin's nBits).
func compactTarget(bits uint32) work.Target {
	mantissa := big.NewInt(int64(bits & 0x7fffff))
	return work.TargetFromBig(mantissa.Lsh(mantissa, 8*uint(bits>>24)-24))
}
