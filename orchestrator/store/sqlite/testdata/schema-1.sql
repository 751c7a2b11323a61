PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
INSERT INTO meta VALUES('tombstone_salt','d8c15ff59eabc1f48c21e889d1a3de72d407104dc7537d5395cbaa267511d5f7');
INSERT INTO meta VALUES('installation','aaaaaaaaaaaaaaaaaaaaaaaaaa');
CREATE TABLE instances (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT NOT NULL UNIQUE,
    user      TEXT NOT NULL,
    desired   TEXT NOT NULL CHECK (desired IN ('present', 'absent')),
    state     TEXT NOT NULL,
    version   INTEGER NOT NULL,
    machine   TEXT NOT NULL,
    next_at   INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    document  TEXT NOT NULL
) STRICT;
INSERT INTO instances VALUES(1,'vgi4ycxw6ybwzq3mza6mrjdpqi','ready','present','ready',18,'mf7sum7reoyfujegmremsftnom',1772366413000000,1772366426000000,'{"ID":"vgi4ycxw6ybwzq3mza6mrjdpqi","User":"ready","SignedUp":"2026-03-01T12:00:00Z","Desired":"present","Generation":1,"Version":18,"State":"ready","Reason":"accepted","Since":"2026-03-01T12:00:03Z","Deadline":"0001-01-01T00:00:00Z","NextAt":"2026-03-01T12:00:13Z","Machine":"mf7sum7reoyfujegmremsftnom","Plan":{"Release":"0100000000000000000000000000000000000000000000000000000000000000","Region":"local","Size":"standard","DataBytes":1048576,"Config":null,"ConfigDigest":"584a41b289ac30b08f29f9fa6705b144478c95059169791dda611a229dd31e60","TokenHash":"14c8bf8978d2cbe02999a1b7faf3170d35047851aa83856d202556923b4d825f"},"Created":true,"Uncertain":false,"Cycling":false,"Attempts":0,"Repairs":0,"Inbound":"127.0.0.1:4430","Enrolment":{"EK":"73f112566def2594c45d460edc24db2d89334dec9b793507eb7c77f2d5bd5b79","AK":"AAsBAgM=","ChallengedAt":"2026-03-01T12:00:00Z","Session":"0700000000000000000000000000000000000000000000000000000000000000","Judged":true,"Accepted":true,"Verdict":"accepted","Appraisal":"eyJ0aWVycyI6eyJtZW1vcnkiOiJzb2Z0d2FyZSJ9fQ==","LastSeen":"2026-03-01T12:00:26Z","Running":true,"Performing":true},"CreatedAt":"2026-03-01T12:00:00Z"}');
INSERT INTO instances VALUES(2,'o5wbnngmx44x3feudfhvtgwubq','','absent','deleted',18,'y3miyrew5t46qw22wdhtxkrnai',0,1772366406000000,'{"ID":"o5wbnngmx44x3feudfhvtgwubq","User":"","SignedUp":"2026-03-01T12:00:04Z","Desired":"absent","Generation":2,"Version":18,"State":"deleted","Reason":"nothing of it is left","Since":"2026-03-01T12:00:08Z","Deadline":"0001-01-01T00:00:00Z","NextAt":"0001-01-01T00:00:00Z","Machine":"y3miyrew5t46qw22wdhtxkrnai","Plan":{"Release":"0100000000000000000000000000000000000000000000000000000000000000","Region":"local","Size":"standard","DataBytes":1048576,"Config":null,"ConfigDigest":"a7351cd93749a6e76d00355b2ef1732c4b03bf482757d1183ecc22b08f0b4a26","TokenHash":"0000000000000000000000000000000000000000000000000000000000000000"},"Created":false,"Uncertain":false,"Cycling":false,"Attempts":0,"Repairs":0,"Inbound":"","Enrolment":{"EK":"0000000000000000000000000000000000000000000000000000000000000000","AK":null,"ChallengedAt":"0001-01-01T00:00:00Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":false,"Accepted":false,"Verdict":"","Appraisal":null,"LastSeen":"2026-03-01T12:00:06Z","Running":false,"Performing":false},"CreatedAt":"2026-03-01T12:00:04Z"}');
INSERT INTO instances VALUES(3,'xniftd5rveqlw7jip5ev76jely','quarantined','present','quarantined',14,'gxzc7n5i6rftewaa2ua3j4d2ta',1772366420000000,1772366420000000,'{"ID":"xniftd5rveqlw7jip5ev76jely","User":"quarantined","SignedUp":"2026-03-01T12:00:08Z","Desired":"present","Generation":1,"Version":14,"State":"quarantined","Reason":"registers differ: pcr11","Since":"2026-03-01T12:00:10Z","Deadline":"0001-01-01T00:00:00Z","NextAt":"2026-03-01T12:00:20Z","Machine":"gxzc7n5i6rftewaa2ua3j4d2ta","Plan":{"Release":"0100000000000000000000000000000000000000000000000000000000000000","Region":"local","Size":"standard","DataBytes":1048576,"Config":null,"ConfigDigest":"6a3ac6cc88a8a3fa211fe263e370a07a934b68e77a9cbeddd5d14e15decfbcfd","TokenHash":"64552b77907053736e2b1ecf339d3860c4e4d07cd3ab34ffe2a1dea3d65fb574"},"Created":true,"Uncertain":false,"Cycling":false,"Attempts":0,"Repairs":0,"Inbound":"127.0.0.1:4430","Enrolment":{"EK":"18430c9a8c21e46f2dc9b681a83b157b1744e0f7a028137cbd121ad356fdb859","AK":null,"ChallengedAt":"2026-03-01T12:00:08Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":true,"Accepted":false,"Verdict":"registers differ: pcr11","Appraisal":null,"LastSeen":"2026-03-01T12:00:09Z","Running":false,"Performing":false},"CreatedAt":"2026-03-01T12:00:08Z"}');
INSERT INTO instances VALUES(4,'oge7seukeslhcgyxvpzrlai3fy','failed','present','failed',7,'apnmubugvabzzfetgbgcsjxn4i',0,0,'{"ID":"oge7seukeslhcgyxvpzrlai3fy","User":"failed","SignedUp":"2026-03-01T12:00:11Z","Desired":"present","Generation":1,"Version":7,"State":"failed","Reason":"creating the machine: INVALID: size is unknown","Since":"2026-03-01T12:00:11Z","Deadline":"0001-01-01T00:00:00Z","NextAt":"0001-01-01T00:00:00Z","Machine":"apnmubugvabzzfetgbgcsjxn4i","Plan":{"Release":"0100000000000000000000000000000000000000000000000000000000000000","Region":"local","Size":"standard","DataBytes":1048576,"Config":"pQEBAngaYXBubXVidWd2YWJ6emZldGdiZ2NzanhuNGkDajEwLjAuMi4yOjEEWCAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAVYIJ1hzhyL2pw3WryQAG8pLoyyTeOhwcVn6WDoZRA45Y54","ConfigDigest":"75d3d70fc49400cf1b8fd30b589f611ee9394d8d6e30f2b7a04bccbb03b039e9","TokenHash":"fc22616d584b1ceb6179cb1881368d7bb9d4b43cb35a7226ce738d5fe30a798f"},"Created":false,"Uncertain":false,"Cycling":false,"Attempts":0,"Repairs":0,"Inbound":"","Enrolment":{"EK":"0000000000000000000000000000000000000000000000000000000000000000","AK":null,"ChallengedAt":"0001-01-01T00:00:00Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":false,"Accepted":false,"Verdict":"","Appraisal":null,"LastSeen":"0001-01-01T00:00:00Z","Running":false,"Performing":false},"CreatedAt":"2026-03-01T12:00:11Z"}');
INSERT INTO instances VALUES(5,'ot2sjkzf3o24vvfzxyzjgystma','deleting','absent','deleting',19,'3oi5z2cwytdkmrfh5xdi6xeo7u',1772366417000000,1772366416000000,'{"ID":"ot2sjkzf3o24vvfzxyzjgystma","User":"deleting","SignedUp":"2026-03-01T12:00:12Z","Desired":"absent","Generation":2,"Version":19,"State":"deleting","Reason":"deleting the machine: UNAVAILABLE: not now","Since":"2026-03-01T12:00:16Z","Deadline":"2026-03-01T12:10:16Z","NextAt":"2026-03-01T12:00:17Z","Machine":"3oi5z2cwytdkmrfh5xdi6xeo7u","Plan":{"Release":"0100000000000000000000000000000000000000000000000000000000000000","Region":"local","Size":"standard","DataBytes":1048576,"Config":null,"ConfigDigest":"9496d0233ade3c9f1735e69a6987495a51114b579176c2cce9b8139a8e157211","TokenHash":"228ca8757a1aaa0e338660c6d63e2f26497618243907838877af201f7fa3e869"},"Created":true,"Uncertain":false,"Cycling":false,"Attempts":1,"Repairs":0,"Inbound":"127.0.0.1:4430","Enrolment":{"EK":"84e23d1eed346612ad0c5d8d2c86dbcc0588f597978b57d1962b34ce298ad851","AK":null,"ChallengedAt":"2026-03-01T12:00:12Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":true,"Accepted":true,"Verdict":"accepted","Appraisal":null,"LastSeen":"2026-03-01T12:00:14Z","Running":true,"Performing":true},"CreatedAt":"2026-03-01T12:00:12Z"}');
INSERT INTO instances VALUES(6,'x5hagbalyj4jadkofz75e4j754','enrolling','present','enrolling',16,'z2qludijcexmmorq2zkwqp6fy4',1772366418000000,1772366420000000,'{"ID":"x5hagbalyj4jadkofz75e4j754","User":"enrolling","SignedUp":"2026-03-01T12:00:16Z","Desired":"present","Generation":1,"Version":16,"State":"enrolling","Reason":"the machine has introduced itself","Since":"2026-03-01T12:00:17Z","Deadline":"2026-03-01T12:02:17Z","NextAt":"2026-03-01T12:00:18Z","Machine":"z2qludijcexmmorq2zkwqp6fy4","Plan":{"Release":"0100000000000000000000000000000000000000000000000000000000000000","Region":"local","Size":"standard","DataBytes":1048576,"Config":null,"ConfigDigest":"97e0fd2e557de5f88e6e6464ad99116c2ec904c41a7f717800ec3e94a4668a43","TokenHash":"3c9a031dd0060486a767d1421fb57de630381ab803e21f9ad965c2c5173ed0bb"},"Created":true,"Uncertain":false,"Cycling":false,"Attempts":0,"Repairs":0,"Inbound":"127.0.0.1:4430","Enrolment":{"EK":"0000000000000000000000000000000000000000000000000000000000000000","AK":null,"ChallengedAt":"2026-03-01T12:00:16Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":false,"Accepted":false,"Verdict":"","Appraisal":null,"LastSeen":"2026-03-01T12:00:16Z","Running":false,"Performing":false},"CreatedAt":"2026-03-01T12:00:16Z"}');
INSERT INTO instances VALUES(7,'j5d7blt3owccc4utbchhunx3iy','stopped','present','stopped',21,'togwo4oyco2vpf35rxbzq2u6g4',1772366422000000,1772366420000000,'{"ID":"j5d7blt3owccc4utbchhunx3iy","User":"stopped","SignedUp":"2026-03-01T12:00:18Z","Desired":"present","Generation":1,"Version":21,"State":"stopped","Reason":"powered off with the control plane","Since":"2026-03-01T12:00:22Z","Deadline":"0001-01-01T00:00:00Z","NextAt":"2026-03-01T12:00:22Z","Machine":"togwo4oyco2vpf35rxbzq2u6g4","Plan":{"Release":"0100000000000000000000000000000000000000000000000000000000000000","Region":"local","Size":"standard","DataBytes":1048576,"Config":null,"ConfigDigest":"4b52ea799bf7c88887567158326e5a77ef4fc045f7da8f2c6f05f08313b37e35","TokenHash":"cae1e089386b7378039f3b82dbe0d88a56c32ce62e2f4b71a80ebc19e21ae11e"},"Created":true,"Uncertain":false,"Cycling":false,"Attempts":0,"Repairs":0,"Inbound":"127.0.0.1:4430","Enrolment":{"EK":"b4bb888660b9aa6d8f4c156037b6ae92b3966dc2f0ac5953647ef7a997a4a553","AK":null,"ChallengedAt":"0001-01-01T00:00:00Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":false,"Accepted":false,"Verdict":"","Appraisal":null,"LastSeen":"2026-03-01T12:00:20Z","Running":false,"Performing":false},"CreatedAt":"2026-03-01T12:00:18Z"}');
INSERT INTO instances VALUES(8,'chaysadb6somqj3r6vugj5pf5i','booting','present','booting',10,'gybiggeu54xr2ykv26jbwj5wfy',1772366423000000,0,'{"ID":"chaysadb6somqj3r6vugj5pf5i","User":"booting","SignedUp":"2026-03-01T12:00:22Z","Desired":"present","Generation":1,"Version":10,"State":"booting","Reason":"the provider has accepted it","Since":"2026-03-01T12:00:22Z","Deadline":"2026-03-01T12:05:22Z","NextAt":"2026-03-01T12:00:23Z","Machine":"gybiggeu54xr2ykv26jbwj5wfy","Plan":{"Release":"0100000000000000000000000000000000000000000000000000000000000000","Region":"local","Size":"standard","DataBytes":1048576,"Config":null,"ConfigDigest":"59047dae0af8d8d140590df7cc9ed30c7785a6c3ac9403470610c1f53ea069f9","TokenHash":"23b938f47a9cebb22708cb3bc26d9c265c5e64d642071533fa7fc6a8d8ada2e5"},"Created":true,"Uncertain":false,"Cycling":false,"Attempts":0,"Repairs":0,"Inbound":"127.0.0.1:4430","Enrolment":{"EK":"0000000000000000000000000000000000000000000000000000000000000000","AK":null,"ChallengedAt":"0001-01-01T00:00:00Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":false,"Accepted":false,"Verdict":"","Appraisal":null,"LastSeen":"0001-01-01T00:00:00Z","Running":false,"Performing":false},"CreatedAt":"2026-03-01T12:00:22Z"}');
INSERT INTO instances VALUES(9,'kq3ak2wegv4vaxd6eqwjo47fg4','creating','present','creating',11,'vbevssmdqlykotrfj7h4av33pe',1772366424000000,0,'{"ID":"kq3ak2wegv4vaxd6eqwjo47fg4","User":"creating","SignedUp":"2026-03-01T12:00:23Z","Desired":"present","Generation":1,"Version":11,"State":"creating","Reason":"creating the machine: UNAVAILABLE: not now","Since":"2026-03-01T12:00:23Z","Deadline":"2026-03-01T12:10:23Z","NextAt":"2026-03-01T12:00:24Z","Machine":"vbevssmdqlykotrfj7h4av33pe","Plan":{"Release":"0100000000000000000000000000000000000000000000000000000000000000","Region":"local","Size":"standard","DataBytes":1048576,"Config":"pQEBAngadmJldnNzbWRxbHlrb3RyZmo3aDRhdjMzcGUDajEwLjAuMi4yOjEEWCAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAVYINfAsFpBwUayAp9AhBYj1T7GwhfuZrVwxATcOLRdBah9","ConfigDigest":"2e22c8405556090929d066d918e84b065f0529e7108a0c1c8412b6b273dd6ae3","TokenHash":"237bc41a6c95a4930fc5a746e74c891c161e51cbf5c4d1818d36bb0c8a100cb7"},"Created":false,"Uncertain":true,"Cycling":false,"Attempts":1,"Repairs":0,"Inbound":"","Enrolment":{"EK":"0000000000000000000000000000000000000000000000000000000000000000","AK":null,"ChallengedAt":"0001-01-01T00:00:00Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":false,"Accepted":false,"Verdict":"","Appraisal":null,"LastSeen":"0001-01-01T00:00:00Z","Running":false,"Performing":false},"CreatedAt":"2026-03-01T12:00:23Z"}');
INSERT INTO instances VALUES(10,'xb63al6sn7fzrep33v2gnldnja','requested','present','requested',5,'',1772366425000000,0,'{"ID":"xb63al6sn7fzrep33v2gnldnja","User":"requested","SignedUp":"2026-03-01T12:00:24Z","Desired":"present","Generation":1,"Version":5,"State":"requested","Reason":"making the image available: UNAVAILABLE: not now","Since":"2026-03-01T12:00:24Z","Deadline":"2026-03-01T13:00:24Z","NextAt":"2026-03-01T12:00:25Z","Machine":"","Plan":{"Release":"0000000000000000000000000000000000000000000000000000000000000000","Region":"","Size":"","DataBytes":0,"Config":null,"ConfigDigest":"0000000000000000000000000000000000000000000000000000000000000000","TokenHash":"0000000000000000000000000000000000000000000000000000000000000000"},"Created":false,"Uncertain":false,"Cycling":false,"Attempts":1,"Repairs":0,"Inbound":"","Enrolment":{"EK":"0000000000000000000000000000000000000000000000000000000000000000","AK":null,"ChallengedAt":"0001-01-01T00:00:00Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":false,"Accepted":false,"Verdict":"","Appraisal":null,"LastSeen":"0001-01-01T00:00:00Z","Running":false,"Performing":false},"CreatedAt":"2026-03-01T12:00:24Z"}');
INSERT INTO instances VALUES(11,'myrcswdydeupluobgmqe3lsg6a','waiting','present','waiting',3,'',1772366426000000,0,'{"ID":"myrcswdydeupluobgmqe3lsg6a","User":"waiting","SignedUp":"2026-03-01T12:00:25Z","Desired":"present","Generation":1,"Version":3,"State":"waiting","Reason":"the cap of 1 machines is reached","Since":"2026-03-01T12:00:25Z","Deadline":"0001-01-01T00:00:00Z","NextAt":"2026-03-01T12:00:26Z","Machine":"","Plan":{"Release":"0000000000000000000000000000000000000000000000000000000000000000","Region":"","Size":"","DataBytes":0,"Config":null,"ConfigDigest":"0000000000000000000000000000000000000000000000000000000000000000","TokenHash":"0000000000000000000000000000000000000000000000000000000000000000"},"Created":false,"Uncertain":false,"Cycling":false,"Attempts":0,"Repairs":0,"Inbound":"","Enrolment":{"EK":"0000000000000000000000000000000000000000000000000000000000000000","AK":null,"ChallengedAt":"0001-01-01T00:00:00Z","Session":"0000000000000000000000000000000000000000000000000000000000000000","Judged":false,"Accepted":false,"Verdict":"","Appraisal":null,"LastSeen":"0001-01-01T00:00:00Z","Running":false,"Performing":false},"CreatedAt":"2026-03-01T12:00:25Z"}');
CREATE TABLE machines (
    id       TEXT PRIMARY KEY,
    instance TEXT NOT NULL
) STRICT;
INSERT INTO machines VALUES('mf7sum7reoyfujegmremsftnom','vgi4ycxw6ybwzq3mza6mrjdpqi');
INSERT INTO machines VALUES('y3miyrew5t46qw22wdhtxkrnai','o5wbnngmx44x3feudfhvtgwubq');
INSERT INTO machines VALUES('gxzc7n5i6rftewaa2ua3j4d2ta','xniftd5rveqlw7jip5ev76jely');
INSERT INTO machines VALUES('apnmubugvabzzfetgbgcsjxn4i','oge7seukeslhcgyxvpzrlai3fy');
INSERT INTO machines VALUES('3oi5z2cwytdkmrfh5xdi6xeo7u','ot2sjkzf3o24vvfzxyzjgystma');
INSERT INTO machines VALUES('z2qludijcexmmorq2zkwqp6fy4','x5hagbalyj4jadkofz75e4j754');
INSERT INTO machines VALUES('togwo4oyco2vpf35rxbzq2u6g4','j5d7blt3owccc4utbchhunx3iy');
INSERT INTO machines VALUES('gybiggeu54xr2ykv26jbwj5wfy','chaysadb6somqj3r6vugj5pf5i');
INSERT INTO machines VALUES('vbevssmdqlykotrfj7h4av33pe','kq3ak2wegv4vaxd6eqwjo47fg4');
CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    instance   TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    reason     TEXT NOT NULL
) STRICT;
INSERT INTO events VALUES(1,1772366400000000,'vgi4ycxw6ybwzq3mza6mrjdpqi','','waiting','signed up');
INSERT INTO events VALUES(2,1772366400000000,'vgi4ycxw6ybwzq3mza6mrjdpqi','waiting','requested','there is room for it');
INSERT INTO events VALUES(3,1772366400000000,'vgi4ycxw6ybwzq3mza6mrjdpqi','requested','creating','made from release 1.0.0');
INSERT INTO events VALUES(4,1772366400000000,'vgi4ycxw6ybwzq3mza6mrjdpqi','creating','booting','the provider has accepted it');
INSERT INTO events VALUES(5,1772366401000000,'vgi4ycxw6ybwzq3mza6mrjdpqi','booting','enrolling','the machine has introduced itself');
INSERT INTO events VALUES(6,1772366403000000,'vgi4ycxw6ybwzq3mza6mrjdpqi','enrolling','ready','accepted');
INSERT INTO events VALUES(7,1772366404000000,'o5wbnngmx44x3feudfhvtgwubq','','waiting','signed up');
INSERT INTO events VALUES(8,1772366404000000,'o5wbnngmx44x3feudfhvtgwubq','waiting','requested','there is room for it');
INSERT INTO events VALUES(9,1772366404000000,'o5wbnngmx44x3feudfhvtgwubq','requested','creating','made from release 1.0.0');
INSERT INTO events VALUES(10,1772366404000000,'o5wbnngmx44x3feudfhvtgwubq','creating','booting','the provider has accepted it');
INSERT INTO events VALUES(11,1772366405000000,'o5wbnngmx44x3feudfhvtgwubq','booting','enrolling','the machine has introduced itself');
INSERT INTO events VALUES(12,1772366407000000,'o5wbnngmx44x3feudfhvtgwubq','enrolling','ready','accepted');
INSERT INTO events VALUES(13,1772366408000000,'o5wbnngmx44x3feudfhvtgwubq','ready','deleting','it shall be gone');
INSERT INTO events VALUES(14,1772366408000000,'o5wbnngmx44x3feudfhvtgwubq','deleting','deleted','nothing of it is left');
INSERT INTO events VALUES(15,1772366408000000,'xniftd5rveqlw7jip5ev76jely','','waiting','signed up');
INSERT INTO events VALUES(16,1772366408000000,'xniftd5rveqlw7jip5ev76jely','waiting','requested','there is room for it');
INSERT INTO events VALUES(17,1772366408000000,'xniftd5rveqlw7jip5ev76jely','requested','creating','made from release 1.0.0');
INSERT INTO events VALUES(18,1772366408000000,'xniftd5rveqlw7jip5ev76jely','creating','booting','the provider has accepted it');
INSERT INTO events VALUES(19,1772366409000000,'xniftd5rveqlw7jip5ev76jely','booting','enrolling','the machine has introduced itself');
INSERT INTO events VALUES(20,1772366410000000,'xniftd5rveqlw7jip5ev76jely','enrolling','quarantined','registers differ: pcr11');
INSERT INTO events VALUES(21,1772366411000000,'oge7seukeslhcgyxvpzrlai3fy','','waiting','signed up');
INSERT INTO events VALUES(22,1772366411000000,'oge7seukeslhcgyxvpzrlai3fy','waiting','requested','there is room for it');
INSERT INTO events VALUES(23,1772366411000000,'oge7seukeslhcgyxvpzrlai3fy','requested','creating','made from release 1.0.0');
INSERT INTO events VALUES(24,1772366411000000,'oge7seukeslhcgyxvpzrlai3fy','creating','failed','creating the machine: INVALID: size is unknown');
INSERT INTO events VALUES(25,1772366412000000,'ot2sjkzf3o24vvfzxyzjgystma','','waiting','signed up');
INSERT INTO events VALUES(26,1772366412000000,'ot2sjkzf3o24vvfzxyzjgystma','waiting','requested','there is room for it');
INSERT INTO events VALUES(27,1772366412000000,'ot2sjkzf3o24vvfzxyzjgystma','requested','creating','made from release 1.0.0');
INSERT INTO events VALUES(28,1772366412000000,'ot2sjkzf3o24vvfzxyzjgystma','creating','booting','the provider has accepted it');
INSERT INTO events VALUES(29,1772366413000000,'ot2sjkzf3o24vvfzxyzjgystma','booting','enrolling','the machine has introduced itself');
INSERT INTO events VALUES(30,1772366415000000,'ot2sjkzf3o24vvfzxyzjgystma','enrolling','ready','accepted');
INSERT INTO events VALUES(31,1772366416000000,'ot2sjkzf3o24vvfzxyzjgystma','ready','deleting','it shall be gone');
INSERT INTO events VALUES(32,1772366416000000,'x5hagbalyj4jadkofz75e4j754','','waiting','signed up');
INSERT INTO events VALUES(33,1772366416000000,'x5hagbalyj4jadkofz75e4j754','waiting','requested','there is room for it');
INSERT INTO events VALUES(34,1772366416000000,'x5hagbalyj4jadkofz75e4j754','requested','creating','made from release 1.0.0');
INSERT INTO events VALUES(35,1772366416000000,'x5hagbalyj4jadkofz75e4j754','creating','booting','the provider has accepted it');
INSERT INTO events VALUES(36,1772366417000000,'ot2sjkzf3o24vvfzxyzjgystma','deleting','deleted','nothing of it is left');
INSERT INTO events VALUES(37,1772366417000000,'x5hagbalyj4jadkofz75e4j754','booting','enrolling','the machine has introduced itself');
INSERT INTO events VALUES(38,1772366418000000,'j5d7blt3owccc4utbchhunx3iy','','waiting','signed up');
INSERT INTO events VALUES(39,1772366418000000,'j5d7blt3owccc4utbchhunx3iy','waiting','requested','there is room for it');
INSERT INTO events VALUES(40,1772366418000000,'j5d7blt3owccc4utbchhunx3iy','requested','creating','made from release 1.0.0');
INSERT INTO events VALUES(41,1772366418000000,'j5d7blt3owccc4utbchhunx3iy','creating','booting','the provider has accepted it');
INSERT INTO events VALUES(42,1772366419000000,'j5d7blt3owccc4utbchhunx3iy','booting','enrolling','the machine has introduced itself');
INSERT INTO events VALUES(43,1772366420000000,'x5hagbalyj4jadkofz75e4j754','enrolling','ready','accepted');
INSERT INTO events VALUES(44,1772366421000000,'j5d7blt3owccc4utbchhunx3iy','enrolling','ready','accepted');
INSERT INTO events VALUES(45,1772366422000000,'j5d7blt3owccc4utbchhunx3iy','ready','stopped','powered off with the control plane');
INSERT INTO events VALUES(46,1772366422000000,'chaysadb6somqj3r6vugj5pf5i','','waiting','signed up');
INSERT INTO events VALUES(47,1772366422000000,'j5d7blt3owccc4utbchhunx3iy','stopped','booting','the control plane is back');
INSERT INTO events VALUES(48,1772366422000000,'chaysadb6somqj3r6vugj5pf5i','waiting','requested','there is room for it');
INSERT INTO events VALUES(49,1772366422000000,'chaysadb6somqj3r6vugj5pf5i','requested','creating','made from release 1.0.0');
INSERT INTO events VALUES(50,1772366422000000,'chaysadb6somqj3r6vugj5pf5i','creating','booting','the provider has accepted it');
INSERT INTO events VALUES(51,1772366423000000,'kq3ak2wegv4vaxd6eqwjo47fg4','','waiting','signed up');
INSERT INTO events VALUES(52,1772366423000000,'kq3ak2wegv4vaxd6eqwjo47fg4','waiting','requested','there is room for it');
INSERT INTO events VALUES(53,1772366423000000,'kq3ak2wegv4vaxd6eqwjo47fg4','requested','creating','made from release 1.0.0');
INSERT INTO events VALUES(54,1772366424000000,'xb63al6sn7fzrep33v2gnldnja','','waiting','signed up');
INSERT INTO events VALUES(55,1772366424000000,'kq3ak2wegv4vaxd6eqwjo47fg4','creating','booting','the provider has accepted it');
INSERT INTO events VALUES(56,1772366424000000,'xb63al6sn7fzrep33v2gnldnja','waiting','requested','there is room for it');
INSERT INTO events VALUES(57,1772366425000000,'myrcswdydeupluobgmqe3lsg6a','','waiting','signed up');
CREATE TABLE releases (
    digest      TEXT PRIMARY KEY,
    version     TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    manifest    BLOB NOT NULL,
    bundle      BLOB NOT NULL,
    disk_path   TEXT NOT NULL,
    disk_sha256 TEXT NOT NULL,
    disk_bytes  INTEGER NOT NULL,
    added_at    INTEGER NOT NULL
) STRICT;
INSERT INTO releases VALUES('0100000000000000000000000000000000000000000000000000000000000000','1.0.0',1,X'6d616e6966657374',X'62756e646c65','disk.raw','0000000000000000000000000000000000000000000000000000000000000000',0,1772366400000000);
CREATE TABLE receipts (
    id     TEXT PRIMARY KEY,
    body   TEXT NOT NULL,
    at     INTEGER NOT NULL,
    result TEXT NOT NULL
) STRICT;
INSERT INTO receipts VALUES('msg_1','0400000000000000000000000000000000000000000000000000000000000000',1772366426000000,'created');
CREATE TABLE tombstones (
    user  TEXT PRIMARY KEY,
    up_to INTEGER NOT NULL
) STRICT;
INSERT INTO tombstones VALUES('0da2ac88a8d6155cc4aa6fd6995ccc932b082d40f3e6bf37728214a7811b85d6',1772366408000000);
INSERT INTO tombstones VALUES('d8749efdb9e3b807f172c525ee384e020c47968be28c59bff25e33f68d9684ec',1772366416000000);
CREATE TABLE tokens (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL
) STRICT;
INSERT INTO tokens VALUES('0300000000000000000000000000000000000000000000000000000000000000','admin');
CREATE TABLE river_leader (
    elected_at timestamp NOT NULL,
    expires_at timestamp NOT NULL,
    leader_id text NOT NULL,
    name text PRIMARY KEY NOT NULL DEFAULT 'default' CHECK (name = 'default'),
    CONSTRAINT name_length CHECK (length(name) > 0 AND length(name) < 128),
    CONSTRAINT leader_id_length CHECK (length(leader_id) > 0 AND length(leader_id) < 128)
);
CREATE TABLE river_migration (
    line text NOT NULL,
    version integer NOT NULL,
    created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT line_length CHECK (length(line) > 0 AND length(line) < 128),
    CONSTRAINT version_gte_1 CHECK (version >= 1),
    PRIMARY KEY (line, version)
);
INSERT INTO river_migration VALUES('main',1,'2026-11-23 01:49:58');
INSERT INTO river_migration VALUES('main',2,'2026-11-23 01:49:58');
INSERT INTO river_migration VALUES('main',3,'2026-11-23 01:49:58');
INSERT INTO river_migration VALUES('main',4,'2026-11-23 01:49:58');
INSERT INTO river_migration VALUES('main',5,'2026-11-23 01:49:58');
INSERT INTO river_migration VALUES('main',6,'2026-11-23 01:49:58');
INSERT INTO river_migration VALUES('main',7,'2026-11-23 01:49:58');
CREATE TABLE river_notification (
    id integer PRIMARY KEY AUTOINCREMENT,
    created_at timestamp NOT NULL DEFAULT (datetime('now', 'subsec')),
    payload text NOT NULL,
    topic text NOT NULL,
    CONSTRAINT topic_length CHECK (length(topic) > 0 AND length(topic) < 128)
);
INSERT INTO river_notification VALUES(1,'2026-11-23 01:49:58.474','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(2,'2026-11-23 01:49:58.513','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(3,'2026-11-23 01:49:58.540','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(4,'2026-11-23 01:49:58.544','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(5,'2026-11-23 01:49:58.557','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(6,'2026-11-23 01:49:58.563','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(7,'2026-11-23 01:49:58.580','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(8,'2026-11-23 01:49:58.584','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(9,'2026-11-23 01:49:58.598','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(10,'2026-11-23 01:49:58.638','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(11,'2026-11-23 01:49:58.654','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(12,'2026-11-23 01:49:58.675','{"queue": "default"}','river_insert');
INSERT INTO river_notification VALUES(13,'2026-11-23 01:49:58.699','{"queue": "default"}','river_insert');
CREATE TABLE river_job (
    id integer PRIMARY KEY, -- SQLite makes this autoincrementing automatically
    args blob NOT NULL DEFAULT (jsonb('{}')),
    attempt integer NOT NULL DEFAULT 0,
    attempted_at timestamp,
    attempted_by blob, -- json
    created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    errors blob, -- json
    finalized_at timestamp,
    kind text NOT NULL,
    metadata blob NOT NULL DEFAULT (jsonb('{}')),
    priority integer NOT NULL DEFAULT 1,
    queue text NOT NULL DEFAULT 'default',
    state text NOT NULL DEFAULT 'available',
    scheduled_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    tags blob NOT NULL DEFAULT (jsonb('[]')),
    unique_key blob,
    unique_states integer, max_attempts integer NOT NULL DEFAULT 25,
    CONSTRAINT finalized_or_finalized_at_null CHECK (
        (finalized_at IS NULL AND state NOT IN ('cancelled', 'completed', 'discarded')) OR
        (finalized_at IS NOT NULL AND state IN ('cancelled', 'completed', 'discarded'))
    ),
    CONSTRAINT priority_in_range CHECK (priority >= 1 AND priority <= 4),
    CONSTRAINT queue_length CHECK (length(queue) > 0 AND length(queue) < 128),
    CONSTRAINT kind_length CHECK (length(kind) > 0 AND length(kind) < 128),
    CONSTRAINT state_valid CHECK (state IN ('available', 'cancelled', 'completed', 'discarded', 'pending', 'retryable', 'running', 'scheduled'))
);
INSERT INTO river_job VALUES(1,X'cc2587696e7374616e6365c71a7667693479637877367962777a71336d7a61366d726a64707169',0,NULL,NULL,'2026-11-23 01:49:58.474',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71032323164383937643439323630656461',1,'default','available','2026-11-23 01:49:58.474',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(2,X'cc2587696e7374616e6365c71a6f3577626e6e676d783434783366657564666876746777756271',0,NULL,NULL,'2026-11-23 01:49:58.512',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71039313565636462363034626666623064',1,'default','available','2026-11-23 01:49:58.512',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(3,X'cc2587696e7374616e6365c71a6f3577626e6e676d783434783366657564666876746777756271',0,NULL,NULL,'2026-11-23 01:49:58.540',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71066626334313462613938366634356661',1,'default','available','2026-11-23 01:49:58.540',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(4,X'cc2587696e7374616e6365c71a786e6966746435727665716c77376a697035657637366a656c79',0,NULL,NULL,'2026-11-23 01:49:58.544',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71062633864643562393764656634656335',1,'default','available','2026-11-23 01:49:58.544',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(5,X'cc2587696e7374616e6365c71a6f6765377365756b65736c686367797876707a726c6169336679',0,NULL,NULL,'2026-11-23 01:49:58.556',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71037323839623964346131666436663261',1,'default','available','2026-11-23 01:49:58.556',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(6,X'cc2587696e7374616e6365c71a6f7432736a6b7a66336f32347676667a78797a6a677973746d61',0,NULL,NULL,'2026-11-23 01:49:58.562',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71038613064396137373962393661636636',1,'default','available','2026-11-23 01:49:58.562',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(7,X'cc2587696e7374616e6365c71a6f7432736a6b7a66336f32347676667a78797a6a677973746d61',0,NULL,NULL,'2026-11-23 01:49:58.580',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71063633564633464666337313536313134',1,'default','available','2026-11-23 01:49:58.580',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(8,X'cc2587696e7374616e6365c71a783568616762616c796a346a61646b6f667a373565346a373534',0,NULL,NULL,'2026-11-23 01:49:58.584',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71034623937623539363039636232396139',1,'default','available','2026-11-23 01:49:58.584',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(9,X'cc2587696e7374616e6365c71a6a356437626c74336f7763636334757462636868756e78336979',0,NULL,NULL,'2026-11-23 01:49:58.598',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71066386362663261643537356335653065',1,'default','available','2026-11-23 01:49:58.598',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(10,X'cc2587696e7374616e6365c71a636861797361646236736f6d716a3372367675676a3570663569',0,NULL,NULL,'2026-11-23 01:49:58.638',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71030626637613931663933396632373137',1,'default','available','2026-11-23 01:49:58.638',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(11,X'cc2587696e7374616e6365c71a6b7133616b32776567763476617864366571776a6f3437666734',0,NULL,NULL,'2026-11-23 01:49:58.654',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71061383964303433383038373537646465',1,'default','available','2026-11-23 01:49:58.654',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(12,X'cc2587696e7374616e6365c71a78623633616c36736e37667a72657033337632676e6c646e6a61',0,NULL,NULL,'2026-11-23 01:49:58.674',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71064663135313030633734626661613732',1,'default','available','2026-11-23 01:49:58.674',X'0b',NULL,NULL,25);
INSERT INTO river_job VALUES(13,X'cc2587696e7374616e6365c71a6d79726373776479646575706c756f62676d7165336c73673661',0,NULL,NULL,'2026-11-23 01:49:58.699',NULL,NULL,'reconcile',X'cc26c71272697665723a756e697175655f6e6f6e6365c71062633937396137303066386630383966',1,'default','available','2026-11-23 01:49:58.699',X'0b',NULL,NULL,25);
CREATE TABLE river_queue (
    name text PRIMARY KEY NOT NULL,
    created_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP,
    metadata blob NOT NULL DEFAULT (jsonb('{}')),
    paused_at timestamp,
    updated_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('instances',11);
INSERT INTO sqlite_sequence VALUES('events',57);
INSERT INTO sqlite_sequence VALUES('river_notification',13);
CREATE UNIQUE INDEX instances_one_per_user ON instances (user) WHERE desired = 'present';
CREATE UNIQUE INDEX instances_machine ON instances (machine) WHERE machine <> '';
CREATE INDEX instances_due ON instances (next_at) WHERE next_at > 0;
CREATE INDEX events_instance ON events (instance, id);
CREATE INDEX receipts_at ON receipts (at);
CREATE INDEX river_notification_created_at_idx ON river_notification (created_at);
CREATE INDEX river_notification_topic_id_idx ON river_notification (topic, id);
CREATE INDEX river_job_kind ON river_job (kind);
CREATE INDEX river_job_state_and_finalized_at_index ON river_job (state, finalized_at) WHERE finalized_at IS NOT NULL;
CREATE INDEX river_job_prioritized_fetching_index ON river_job (state, queue, priority, scheduled_at, id);
CREATE UNIQUE INDEX river_job_unique_idx ON river_job (unique_key)
    WHERE unique_key IS NOT NULL
        AND unique_states IS NOT NULL
        AND CASE state
            WHEN 'available' THEN unique_states & (1 << 0)
            WHEN 'cancelled' THEN unique_states & (1 << 1)
            WHEN 'completed' THEN unique_states & (1 << 2)
            WHEN 'discarded' THEN unique_states & (1 << 3)
            WHEN 'pending'   THEN unique_states & (1 << 4)
            WHEN 'retryable' THEN unique_states & (1 << 5)
            WHEN 'running'   THEN unique_states & (1 << 6)
            WHEN 'scheduled' THEN unique_states & (1 << 7)
            ELSE 0
        END >= 1;
COMMIT;
PRAGMA user_version=1;
