package aka

import (
	"encoding/hex"
	"strings"
	"testing"
)

// milenageSets are the columns K, RAND, SQN, AMF, OP | OPc, f1, f1*, f2, f5, f3,
// f4, f5* of TS 35.207 clauses 4 to 6 (sets 1 to 6) and TS 35.208 clause 4.3.
const milenageSets = `
207/1 465b5ce8b199b49faa5f0a2ee238a6bc 23553cbe9637a89d218ae64dae47bf35 ff9bb4d0b607 b9b9 cdc202d5123e20f62b6d676ac72cb318 cd63cb71954a9f4e48a5994e37a02baf 4a9ffac354dfafb3 01cfaf9ec4e871e9 a54211d5e3ba50bf aa689c648370 b40ba9a3c58b2a05bbf0d987b21bf8cb f769bcd751044604127672711c6d3441 451e8beca43b
207/2 0396eb317b6d1c36f19c1c84cd6ffd16 c00d603103dcee52c4478119494202e8 fd8eef40df7d af17 ff53bade17df5d4e793073ce9d7579fa 53c15671c60a4b731c55b4a441c0bde2 5df5b31807e258b0 a8c016e51ef4a343 d3a628ed988620f0 c47783995f72 58c433ff7a7082acd424220f2b67c556 21a8c1f929702adb3e738488b9f5c5da 30f1197061c1
207/3 fec86ba6eb707ed08905757b1bb44b8f 9f7c8d021accf4db213ccff0c7f71a6a 9d0277595ffc 725c dbc59adcb6f9a0ef735477b7fadf8374 1006020f0a478bf6b699f15c062e42b3 9cabc3e99baf7281 95814ba2b3044324 8011c48c0c214ed2 33484dc2136b 5dbdbb2954e8f3cde665b046179a5098 59a92d3b476a0443487055cf88b2307b deacdd848cc6
207/4 9e5944aea94b81165c82fbf9f32db751 ce83dbc54ac0274a157c17f80d017bd6 0b604a81eca8 9e09 223014c5806694c007ca1eeef57f004f a64a507ae1a2a98bb88eb4210135dc87 74a58220cba84c49 ac2cc74a96871837 f365cd683cd92e96 f0b9c08ad02e e203edb3971574f5a94b0d61b816345d 0c4524adeac041c4dd830d20854fc46b 6085a86c6f63
207/5 4ab1deb05ca6ceb051fc98e77d026a84 74b0cd6031a1c8339b2b6ce2b8c4a186 e880a1b580b6 9f07 2d16c5cd1fdf6b22383584e3bef2a8d8 dcf07cbd51855290b92a07a9891e523e 49e785dd12626ef2 9e85790336bb3fa2 5860fc1bce351e7e 31e11a609118 7657766b373d1c2138f307e3de9242f9 1c42e960d89b8fa99f2744e0708ccb53 fe2555e54aa9
207/6 6c38a116ac280c454f59332ee35c8c4f ee6466bc96202c5a557abbeff8babf63 414b98222181 4464 1ba00a1a7c6700ac8c3ff3e96ad08725 3803ef5363b947c6aaa225e58fae3934 078adfb488241a57 80246b8d0186bcf1 16c8233f05a0ac28 45b0f69ab06c 3f8c7587fe8e4b233af676aede30ba3b a7466cc1e6b2a1337d49d3b66e95d7b4 1f53cd2b1113
208/7 2d609d4db0ac5bf0d2c0de267014de0d 194aa756013896b74b4a2a3b0af4539e 6bf69438c2e4 5f67 460a48385427aa39264aac8efc9e73e8 c35a0ab0bcbfc9252caff15f24efbde0 bd07d3003b9e5cc3 bcb6c2fcad152250 8c25a16cd918a1df 7e6455f34cf3 4cd0846020f8fa0731dd47cbdc6be411 88ab80a415f15c73711254a1d388f696 dc6dd01e8f15
208/8 a530a7fe428fad1082c45eddfce13884 3a4c2b3245c50eb5c71d08639395764d f63f5d768784 b90e 511c6c4e83e38c89b1c5d8dde62426fa 27953e49bc8af6dcc6e730eb80286be3 53761fbd679b0bad 21adfd334a10e7ce a63241e1ffc3e5ab 88196c47986f 10f05bab75a99a5fbb98a9c287679c3b f9ec0865eb32f22369cade40c59c3a44 c987a3d23115
208/9 d9151cf04896e25830bf2e08267b8360 f761e5e93d603feb730e27556cb8a2ca 47ee0199820a 9113 75fc2233a44294ee8e6de25c4353d26b c4c93effe8a08138c203d4c27ce4e3d9 66cc4be44862af1f 7a4b8d7a8753f246 4a90b2171ac83a76 82a0f5287a71 71236b7129f9b22ab77ea7a54c96da22 90527ebaa5588968db41727325a04d9e 527dbf41f35f
208/10 a0e2971b6822e8d354a18cc235624ecb 08eff828b13fdb562722c65c7f30a9b2 db5c066481e0 716b 323792faca21fb4d5d6f13c145a9d2c1 82a26f22bba9e9488f949a10d98e9cc4 9485fe24621cb9f6 bce325ce03e2e9b9 4bc2212d8624910a a2f858aa9e5d 08cef6d004ec61471a3c3cda048137fa ed0318ca5deb9206272f6e8fa64ba411 74e76fbbec38
208/11 0da6f7ba86d5eac8a19cf563ac58642d 679ac4dbacd7d233ff9d6806f4149ce3 6e2331d692ad 224a 4b9a26fa459e3acbff36f4015de3bdc1 0db1071f8767562ca43a0a64c41e8d08 2831d7ae9088e492 9b2e16951135d523 6fc30fee6d123523 4c539a26e1fa 69b1cae7c7429d975e245cacb05a517c 74f24e8c26df58e1b38d7dcd4f1b7fbd 07861e126928
208/12 77b45843c88e58c10d202684515ed430 4c47eb3076dc55fe5106cb2034b8cd78 fe1a8731005d ad25 bf3286c7a51409ce95724d503bfe6e70 d483afae562409a326b5bb0b20c4d762 08332d7e9f484570 ed41b734489d5207 aefa357beac2a87a 30ff25cdadf6 908c43f0569cb8f74bc971e706c36c5f c251df0d888dd9329bcf46655b226e40 e84ed0d4677e
208/19 5122250214c33e723a5dd523fc145fc0 81e92b6c0ee0e12ebceba8d92a99dfa5 16f3b3f70fc2 c3ab c9e8763286b5b9ffbdf56e1297d0887b 981d464c7c52eb6e5036234984ad0bcf 2a5c23d15ee351d5 62dae3853f3af9d2 28d7b0f2a2ec3de5 ada15aeb7bb8 5349fbe098649f948f5d2e973a81c00f 9744871ad32bf9bbd1dd5ce54e3e2e5a d461bc15475d
208/20 90dca4eda45b53cf0f12d7c9c3bc6a89 9fddc72092c6ad036b6e464789315b78 20f813bd4141 61df 3ffcfe5b7b1111589920d3528e84e655 cb9cccc4b9258e6dca4760379fb82581 09db94eab4f8149e a29468aa9775b527 a95100e2760952cd 83cfd54db913 b5f2da03883b69f96bf52e029ed9ac45 b4721368bc16ea67875c5598688bb0ef 4f2039392ddc
`

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ToLower(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func is(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	if hex.EncodeToString(got) != strings.ToLower(want) {
		t.Errorf("%s = %x, want %s", what, got, want)
	}
}

func TestMilenageSets(t *testing.T) {
	for line := range strings.Lines(milenageSets) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		t.Run(f[0], func(t *testing.T) {
			k, rand := [16]byte(unhex(t, f[1])), [16]byte(unhex(t, f[2]))
			sqn := SQNFrom([6]byte(unhex(t, f[3])), [6]byte{})
			amf := [2]byte(unhex(t, f[4]))
			opc := OPc(k, [16]byte(unhex(t, f[5])))
			m := NewMilenage(k, opc)
			macA, macS := m.F1(rand, sqn, amf), m.F1Star(rand, sqn, amf)
			res, ck, ik, ak := m.F2345(rand)
			akStar := m.F5Star(rand)
			for i, got := range [][]byte{opc[:], macA[:], macS[:], res[:], ak[:], ck[:], ik[:], akStar[:]} {
				is(t, []string{"OPc", "f1", "f1*", "f2", "f5", "f3", "f4", "f5*"}[i], got, f[6+i])
			}
		})
	}
}

// The library reports errors for lengths that the array types rule out; this holds
// that nothing else makes it return nothing.
func TestMilenageExtremes(t *testing.T) {
	var zero, ones [16]byte
	for i := range ones {
		ones[i] = 0xff
	}
	for _, k := range [][16]byte{zero, ones} {
		for _, rand := range [][16]byte{zero, ones} {
			for _, sqn := range []uint64{0, 1<<48 - 1, 1<<64 - 1} {
				m := NewMilenage(k, OPc(k, rand))
				if m.F1(rand, sqn, [2]byte{0xff, 0xff}) == ([8]byte{}) || m.F1Star(rand, sqn, [2]byte{}) == ([8]byte{}) ||
					m.F5Star(rand) == ([6]byte{}) {
					t.Errorf("f1, f1* or f5* is all zero for K %x RAND %x SQN %x", k, rand, sqn)
				}
				res, ck, ik, ak := m.F2345(rand)
				if res == ([8]byte{}) || ck == ([16]byte{}) || ik == ([16]byte{}) || ak == ([6]byte{}) {
					t.Errorf("f2..f5 are all zero for K %x RAND %x", k, rand)
				}
			}
		}
	}
}

func TestAUTNAndAUTS(t *testing.T) {
	// A published run: K = OP = RAND = 00112233..., SQN 1, AMF 8000.
	x := [16]byte(unhex(t, "00112233445566778899aabbccddeeff"))
	m := NewMilenage(x, OPc(x, x))
	_, _, _, ak := m.F2345(x)
	autn := BuildAUTN(XorSQN(1, ak), [2]byte{0x80}, m.F1(x, 1, [2]byte{0x80}))
	is(t, "AUTN", autn[:], "de656c8b0bcf80004af30b82a8531115")
	auts := BuildAUTS(m, x, 1)
	is(t, "AUTS", auts[:], "b9ac50c48a82cdf74673bc86e7ab")

	concealed, amf, mac := SplitAUTN(autn)
	if got := SQNFrom(concealed, ak); got != 1 || amf != [2]byte{0x80} || mac != m.F1(x, 1, amf) {
		t.Errorf("SplitAUTN gave SQN %d AMF %x MAC %x, want what was built", got, amf, mac)
	}
	for _, sqn := range []uint64{0, 1, 31, 32, 1<<48 - 1} {
		if got, ok := OpenAUTS(m, x, BuildAUTS(m, x, sqn)); !ok || got != sqn {
			t.Errorf("OpenAUTS = %d, %v, want the SQN-MS %d that was sent", got, ok, sqn)
		}
	}
	for i := range auts {
		bad := auts
		bad[i] ^= 1
		if got, ok := OpenAUTS(m, x, bad); ok || got != 0 {
			t.Errorf("OpenAUTS accepted an AUTS altered at octet %d", i)
		}
	}
	other := x
	other[0] ^= 1
	if _, ok := OpenAUTS(m, other, auts); ok {
		t.Error("OpenAUTS accepted an AUTS that answers another RAND")
	}
}
