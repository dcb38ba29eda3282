package stratum

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"qcitycoin.org/qcity/miner/work"
)

func TestLineReader(t *testing.T) {
	long := strings.Repeat("x", 3000)
	for name, tc := range map[string]struct {
		in    string
		limit int
		want  []string
		err   error
	}{
		"lines":            {"one\ntwo\n", 0, []string{"one", "two"}, io.EOF},
		"windows and tabs": {"one\r\n\t two \n", 0, []string{"one", "two"}, io.EOF},
		"blank lines":      {"\n\r\n  \none\n", 0, []string{"one"}, io.EOF},
		"cut last line":    {"one\ntw", 0, []string{"one"}, io.EOF},
		"long":             {long + "\none\n", 0, []string{long, "one"}, io.EOF},
		"at the limit":     {strings.Repeat("x", 599) + "\n", 600, []string{strings.Repeat("x", 599)}, io.EOF},
		"over the limit":   {"one\n" + strings.Repeat("x", 600) + "\n", 600, []string{"one"}, ErrLineTooLong},
		"never ends":       {strings.Repeat("x", 1<<20), 0, nil, ErrLineTooLong},
	} {
		for chunk, wrap := range map[string]func(io.Reader) io.Reader{
			"whole": func(r io.Reader) io.Reader { return r },
			"bytes": iotest.OneByteReader,
			"eof":   iotest.DataErrReader,
		} {
			t.Run(name+"/"+chunk, func(t *testing.T) {
				l := NewLineReader(wrap(strings.NewReader(tc.in)), tc.limit)
				var got []string
				for {
					line, err := l.ReadLine()
					if err != nil {
						if !errors.Is(err, tc.err) {
							t.Errorf("error %v, want %v", err, tc.err)
						}
						break
					}
					got = append(got, string(line))
				}
				if d := cmp.Diff(tc.want, got); d != "" {
					t.Error(d)
				}
				if limit := max(tc.limit, 0); limit > 0 && cap(l.buf) > limit || cap(l.buf) > DefaultLineLimit {
					t.Errorf("buffer grew to %d bytes", cap(l.buf))
				}
			})
		}
	}
}

func TestLineReaderGoesOn(t *testing.T) {
	l := NewLineReader(strings.NewReader(" line\n"), 0)
	l.Push([]byte("{}\nhalf a"))
	if !l.Buffered() {
		t.Error("a whole line is there, but Buffered says no")
	}
	if line, err := l.ReadLine(); string(line) != "{}" || err != nil {
		t.Errorf("ReadLine = %q, %v", line, err)
	}
	if l.Buffered() {
		t.Error("Buffered counts a line that has no end yet")
	}
	if string(l.Unread()) != "half a" {
		t.Errorf("Unread = %q", l.Unread())
	}
	if line, err := l.ReadLine(); string(line) != "half a line" || err != nil {
		t.Errorf("ReadLine = %q, %v", line, err)
	}
}

func TestParseRequest(t *testing.T) {
	type want struct{ ID, Method, Params string }
	for name, tc := range map[string]struct {
		line     string
		want     want
		response bool
		err      string
	}{
		"number id":        {line: `{"id":1,"method":"mining.ping","params":[]}`, want: want{"1", "mining.ping", "[]"}},
		"string id":        {line: `{"id":"txlist1","method":"m","params":["a"]}`, want: want{`"txlist1"`, "m", `["a"]`}},
		"escaped id":       {line: `{"id":"a\"\u0041","method":"m"}`, want: want{`"a\"\u0041"`, "m", ""}},
		"null id":          {line: `{"id": null ,"method":"m","params":[1, 2]}`, want: want{"null", "m", "[1, 2]"}},
		"no id":            {line: `{"method":"m"}`, want: want{"null", "m", ""}},
		"float id":         {line: `{"id":1.50e+1,"method":"m"}`, want: want{"1.50e+1", "m", ""}},
		"ttl member":       {line: `{"id":1,"ttl":"30","method":"m","params":[]}`, want: want{"1", "m", "[]"}},
		"nested unknown":   {line: `{"x":{"method":"no","id":[9]},"id":2,"method":"yes"}`, want: want{"2", "yes", ""}},
		"escaped method":   {line: `{"id":1,"method":"mining\u002eping"}`, want: want{"1", "mining.ping", ""}},
		"repeated member":  {line: `{"id":1,"id":2,"method":"a","method":"b"}`, want: want{"2", "b", ""}},
		"result":           {line: `{"id":7,"result":true,"error":null}`, want: want{ID: "7"}, response: true},
		"empty object":     {line: `{}`, want: want{ID: "null"}, err: "method"},
		"method no string": {line: `{"id":3,"method":5}`, want: want{ID: "3"}, err: "method"},
		"array":            {line: `[1]`, want: want{ID: "null"}, err: "one object"},
		"trailing text":    {line: `{"id":1,"method":"m"} x`, want: want{ID: "1"}, err: "after"},
		"broken":           {line: `{"id":4,"method":"m",`, want: want{ID: "4"}, err: "JSON"},
		"leading zero":     {line: `{"id":01,"method":"m"}`, want: want{ID: "0"}, err: "JSON"},
		"control byte":     {line: "{\"id\":\"a\x01\",\"method\":\"m\"}", want: want{ID: "null"}, err: "JSON"},
		"deep":             {line: `{"a":` + strings.Repeat("[", 5000), want: want{ID: "null"}, err: "deep"},
	} {
		t.Run(name, func(t *testing.T) {
			var q Request
			err := ParseRequest([]byte(tc.line), &q)
			if tc.err == "" && err != nil || tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)) {
				t.Errorf("error %v, want one with %q", err, tc.err)
			}
			if d := cmp.Diff(want{string(q.ID), tc.want.Method, string(q.Params)}, want{tc.want.ID, string(q.Method), string(q.Params)}); d != "" {
				t.Error(d)
			}
			if err == nil && string(q.Params) != tc.want.Params || q.Response != tc.response {
				t.Errorf("params %s, response %v", q.Params, q.Response)
			}
		})
	}
}

func TestElements(t *testing.T) {
	for name, tc := range map[string]struct {
		raw  string
		room int
		want []string
		ok   bool
	}{
		"absent":    {"", 4, nil, true},
		"null":      {"null", 4, nil, true},
		"empty":     {"[ ]", 4, nil, true},
		"mixed":     {`[ "a,b" ,1, {"x":[2]} , null]`, 4, []string{`"a,b"`, "1", `{"x":[2]}`, "null"}, true},
		"surplus":   {`[1,2,3]`, 2, []string{"1", "2"}, true},
		"an object": {`{"a":1}`, 4, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := Raw(tc.raw).Elements(make([]Raw, 0, tc.room))
			var text []string
			for _, r := range got {
				text = append(text, string(r))
			}
			if d := cmp.Diff(tc.want, text); d != "" || ok != tc.ok {
				t.Errorf("ok %v\n%s", ok, d)
			}
		})
	}
}

// FuzzParseRequest holds the scanner against encoding/json.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{
		`{"id":1,"method":"mining.submit","params":["w","1f","00","5","6"]}`, `{"id":"a\u00e9","method":null}`,
		`{"a":[1.5e-3,{"b":""}],"method":"x"}`, `{"id":-0,"method":"\ud800"}`, `{`, `{"":0}`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var q Request
		err := ParseRequest(line, &q)
		if errors.Is(err, errDepth) {
			return
		}
		if syntax := errors.Is(err, errSyntax); syntax == (json.Valid(line) && bytes.TrimLeft(line, " \t\r\n")[0] == '{') {
			t.Fatalf("%q: scanner says %v, encoding/json says valid=%v", line, err, json.Valid(line))
		}
		if err != nil {
			return
		}
		var std map[string]json.RawMessage
		if err := json.Unmarshal(line, &std); err != nil {
			t.Fatal(err)
		}
		if std["id"] != nil && !bytes.Equal(std["id"], q.ID) || std["params"] != nil && !bytes.Equal(std["params"], q.Params) {
			// Only an escaped spelling of a member's name may differ: it is unknown to the scanner.
			if !bytes.Contains(line, []byte(`\`)) {
				t.Fatalf("%q: id %s params %s, encoding/json %s %s", line, q.ID, q.Params, std["id"], std["params"])
			}
		}
		if !json.Valid(AppendResult(nil, q.ID, "true")) || !json.Valid(AppendError(nil, q.ID, Errorf(CodeOther, "%q", q.Method))) {
			t.Fatalf("answer to %q is not JSON", line)
		}
		q.Params.Elements(make([]Raw, 0, 4))
	})
}

func TestHexFields(t *testing.T) {
	for text, want := range map[string]uint32{"1f": 0x1f, "DEADbeef": 0xdeadbeef, "0000000a": 10, "1234567890": 0x12345678} {
		if got, err := ParseUint32([]byte(text)); got != want || err != nil {
			t.Errorf("ParseUint32(%s) = %08x, %v", text, got, err)
		}
	}
	for _, bad := range []string{"", "0x10", "12345678zz", "-1", " 1"} {
		if v, err := ParseUint32([]byte(bad)); err == nil {
			t.Errorf("ParseUint32(%q) = %x", bad, v)
		}
	}
	for text, want := range map[string]string{"": "0000", "aB": "ab00", "abcd": "abcd", "abcdef": "abcd"} {
		got := []byte{9, 9}
		if err := ParseBytes(got, []byte(text)); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("ParseBytes(%q) = %x, %v", text, got, err)
		}
	}
	for _, bad := range []string{"a", "zz", "abcdzz"} {
		if err := ParseBytes(make([]byte, 2), []byte(bad)); err == nil {
			t.Errorf("ParseBytes took %q", bad)
		}
	}
}

// slushJob is the example of Slush Pool's Stratum description, the protocol's
// first: the job, and (in slushShare) a share that was found for it. Our
// extranonce is longer, so its first four bytes come out of that coinbase.
func slushJob(t *testing.T) (*work.Job, [work.ExtranonceSize]byte) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	coinb1 := unhex("01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff20020862062f503253482f04b8864e5008")
	coinb2 := unhex("072f736c7573682f000000000100f2052a010000001976a914d23fcdf86f7e756a64a7a9688ef9903327048ed988ac00000000")
	split := len(coinb1) - 4
	var extranonce [work.ExtranonceSize]byte
	copy(extranonce[:], coinb1[split:])
	copy(extranonce[4:], unhex("0800000200000001"))
	job := &work.Job{
		CoinbasePrefix: coinb1[:split], CoinbaseSuffix: coinb2, Version: 2, Bits: 0x1c2ac4af, Time: 0x504e86b9,
	}
	// The block's hash as explorers print it, which is the reverse of the internal order.
	shown := unhex("00000000440b921e1b77c6c0487ae5616de67f788f44ae2a5af6e2194d16b6f8")
	for i := range shown {
		job.PrevBlock[31-i] = shown[i]
	}
	return job, extranonce
}

func TestNotifyMatchesSlushExample(t *testing.T) {
	job, _ := slushJob(t)
	line := AppendNotify(nil, 0xbf, AppendNotifyBody(nil, job), job.Time, false)
	want := `{"id":null,"method":"mining.notify","params":["bf",` +
		`"4d16b6f85af6e2198f44ae2a6de67f78487ae5611b77c6c0440b921e00000000",` +
		`"01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff20020862062f503253482f04b8",` +
		`"072f736c7573682f000000000100f2052a010000001976a914d23fcdf86f7e756a64a7a9688ef9903327048ed988ac00000000",` +
		`[],"00000002","1c2ac4af","504e86b9",false]}` + "\n"
	if d := cmp.Diff(want, string(line)); d != "" {
		t.Error(d)
	}
}

func TestSlushExampleShare(t *testing.T) {
	job, extranonce := slushJob(t)
	header := job.Header(work.Solution{Extranonce: extranonce, Version: 2, Time: 0x504e86ed, Nonce: 0xb2957c02})
	if d := HashDifficulty(header.Hash()); d < 1 {
		t.Errorf("the example's share has difficulty %v (hash %x)", d, header.Hash())
	}
}

func TestSubscribeResult(t *testing.T) {
	got := string(AppendSubscribeResult(nil, Raw(`"1"`), []byte{0x0a, 0xff, 0, 1}))
	want := `{"id":"1","result":[[["mining.set_difficulty","0aff0001"],["mining.notify","0aff0001"]],"0aff0001",8],"error":null}` + "\n"
	if got != want {
		t.Errorf("got %s", got)
	}
}

func TestDifficultyText(t *testing.T) {
	for d, want := range map[float64]string{1: "1", 1 << 40: "1099511627776", 1.0 / 1024: "0.0009765625", 0.00015: "0.00015"} {
		if got := string(AppendDifficulty(nil, d)); got != want {
			t.Errorf("%v is sent as %s, want %s", d, got, want)
		}
	}
}

func TestPasswordDifficulty(t *testing.T) {
	for pw, want := range map[string][2]float64{
		"x": {}, "": {}, "d=1024": {1024}, "x,d=0.5": {0.5}, "diff=7.9": {7}, "a;D=3": {3}, "stats d=16": {16},
		"d=-1": {}, "d=NaN": {}, "d=inf": {}, "nd=5": {}, "d=1e400": {}, "d=": {}, "d=8,d=9": {8}, "d=0,d=9": {9},
		"md=512": {0, 512}, "x,md=2;d=4": {4, 2}, "MD=1.5": {0, 1},
	} {
		if fixed, least := PasswordDifficulty([]byte(pw)); fixed != want[0] || least != want[1] {
			t.Errorf("password %q asks for %v, at least %v; want %v", pw, fixed, least, want)
		}
	}
}

// Strings come out as encoding/json reads them back.
func TestAppendString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		var back string
		if err := json.Unmarshal(AppendString(nil, text), &back); err != nil || back != strings.ToValidUTF8(text, "\ufffd") && utf8.ValidString(text) {
			t.Fatalf("%q comes back as %q, %v", text, back, err)
		}
	})
}

func TestServerMessages(t *testing.T) {
	for want, got := range map[string][]byte{
		`{"id":null,"method":"mining.set_extranonce","params":["0aff0001",8]}`:                                                      AppendSetExtranonce(nil, []byte{10, 255, 0, 1}),
		`{"id":null,"method":"mining.set_extranonce","params":["0aff000100000000",4]}`:                                              AppendSetExtranonce(nil, []byte{10, 255, 0, 1, 0, 0, 0, 0}),
		`{"id":null,"method":"client.show_message","params":["say \"hello\""]}`:                                                     AppendShowMessage(nil, `say "hello"`),
		`{"id":null,"method":"client.reconnect","params":[]}`:                                                                       AppendReconnect(nil),
		`{"id":7,"method":"client.get_version","params":[]}`:                                                                        AppendGetVersion(nil, 7),
		`{"id":null,"method":"mining.set_version_mask","params":["1fffe000"]}`:                                                      AppendSetVersionMask(nil, 0x1fffe000),
		`{"id":1,"result":[[["mining.set_difficulty","00000007"],["mining.notify","00000007"]],"0000000700000000",4],"error":null}`: AppendSubscribeResult(nil, Raw("1"), []byte{0, 0, 0, 7, 0, 0, 0, 0}),
	} {
		if string(got) != want+"\n" {
			t.Errorf("got %swant %s", got, want)
		}
	}
}

func TestHashDifficultyAgreesWithWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var hash [32]byte
		copy(hash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
		clear(hash[32-rapid.IntRange(0, 31).Draw(t, "zeros"):])
		binary.LittleEndian.PutUint64(hash[:], 1) // never zero as a whole
		got, want := HashDifficulty(hash), work.DifficultyOfHash(hash)
		if math.Abs(got-want) > want*1e-14 {
			t.Fatalf("%x: %v, want %v", hash, got, want)
		}
	})
}

func TestShareDifficultyNeverHarderThanABlock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.Float64Range(1e-6, 1e12).Draw(t, "want")
		block := work.TargetFromDifficulty(rapid.Float64Range(1e-6, 1e12).Draw(t, "network"))
		d := ShareDifficulty(want, block.Difficulty())
		if d > want || d > block.Difficulty() {
			t.Fatalf("announced %v for want %v, network %v", d, want, block.Difficulty())
		}
		if share := ShareTarget(d, block); block.Easier(share) {
			t.Fatalf("share target %s is harder than the block's %s", share, block)
		}
	})
}
