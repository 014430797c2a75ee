//! NAT gateways and endpoints of our machines, on a line of their own.

use lowtide::core::units::time::Millis;
use lowtide::ledger::import::{Checks, Format, Mapping, Options, import, retract};
use lowtide::ledger::reconcile::reconcile;
use lowtide::ledger::report::{self, By, EconomicsBy, Month, unit_economics};
use lowtide::ledger::{connect, verify};
use sqlx::PgConnection;

use crate::facts::{Bench, DAY, bench};
use crate::imports::{Folder, LATER, changed, taken};
use crate::statements::{HEADER, cost, line, machine_of, of_line};

const GATEWAY: &str = "arn:aws:ec2:us-east-1:444455556666:natgateway/nat-1";

/// A bill of tagged resources: lines with what `lowtide-share` says of theirs, and the claim that they are tagged with.
fn bill(lines: &[(String, &str, &str)]) -> String {
    let quoted = |(line, share, claim): &(String, &str, &str)| {
        let tags = [("user_lowtide_share", share), ("user_lowtide_claim_uid", claim)];
        let tags = tags.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("\"\"{key}\"\": \"\"{value}\"\""));
        format!("{},\"{{{}}}\"\n", line.trim_end(), tags.collect::<Vec<_>>().join(", "))
    };
    format!("{},resource_tags\n{}", HEADER.trim_end(), lines.iter().map(quoted).collect::<String>())
}

/// Ten hours of `a`, and of `b` two hours from half past two; a gateway that both use, `share` of it.
fn lines(share: &'static str) -> Vec<(String, &'static str, &'static str)> {
    let use_of = |id: &str, hour: i64, amount: &str| {
        line(&format!("{id}-{hour}"), "Usage", &format!("i-{id}"), "SpotUsage:g6.xlarge", hour, amount, amount, "")
    };
    let of = |id: &str, resource: &str, usage: &str, hour: i64, cost: &str| line(id, "Usage", resource, usage, hour, "1", cost, "");
    let elsewhere = GATEWAY.replace("us-east-1", "eu-west-1");
    let machines = (0..10).map(|hour| use_of("a", hour, "1")).chain([use_of("b", 2, "0.5"), use_of("b", 3, "1"), use_of("b", 4, "0.5")]);
    let mut all: Vec<(String, &str, &str)> = machines.map(|line| (line, "", "")).collect();
    all.extend([
        (of("n0", GATEWAY, "NatGateway-Hours", 0, "4"), share, ""),
        (of("n2", GATEWAY, "NatGateway-Hours", 2, "3"), share, ""),
        (of("n3", GATEWAY, "NatGateway-Bytes", 3, "6"), share, ""),
        // Nothing of ours ran.
        (of("n12", GATEWAY, "NatGateway-Hours", 12, "8"), share, ""),
        (of("out", GATEWAY, "DataTransfer-Out-Bytes", 3, "2"), share, ""),
        (of("e", &GATEWAY.replace("natgateway/nat-1", "vpc-endpoint/vpce-1"), "USE1-VpcEndpoint-Hours", 5, "1"), "100", ""),
        // Of others: without a tag, in a region and in an account where nothing of ours ran.
        (of("o1", &GATEWAY.replace("nat-1", "nat-2"), "NatGateway-Hours", 0, "7"), "", ""),
        (of("o2", &elsewhere, "EU-NatGateway-Hours", 0, "5"), "100", ""),
        (of("o3", GATEWAY, "NatGateway-Hours", 0, "9").replace("444455556666,Usage", "777788889999,Usage"), "100", ""),
        // One of a single machine, as volumes are tagged.
        (of("c", &GATEWAY.replace("nat-1", "nat-3"), "NatGateway-Hours", 6, "0.5"), "", "uid-b"),
    ]);
    all
}

async fn by_machine(connection: &mut PgConnection, line: &str) -> String {
    let sql = "SELECT coalesce(string_agg(claim_uid || ' ' || cost, ', ' ORDER BY claim_uid), '')
               FROM (SELECT claim_uid, sum(cost_usd)::numeric(12,6) AS cost FROM ledger.posting WHERE line = $1 GROUP BY 1 HAVING sum(cost_usd) <> 0) x";
    sqlx::query_scalar(sql).bind(line).fetch_one(connection).await.unwrap()
}

/// C13: the NAT of our machines by the share that its tag says, machine by machine, and the rest others'.
#[tokio::test]
async fn the_gateways_of_our_machines_are_on_a_line_of_their_own_and_the_rest_is_others() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 10).await;
    machine_of(&ledger, "b", DAY + Millis::from_mins(150), 2).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("gateways");
    let july = "2026-07".parse::<Month>().unwrap();
    let half = folder.file("half/cur.csv", &bill(&lines("50 %")));
    taken(&mut connection, Format::Cur, std::slice::from_ref(&half)).await.unwrap();
    // Half of $4, of $3 two thirds, of $6 half, and the endpoint; half of $3 a third, of $6 half, and its own.
    assert_eq!(by_machine(&mut connection, "nat").await, "uid-a 5.500000, uid-b 2.500000");
    assert_eq!(by_machine(&mut connection, "transfer").await, "uid-a 0.500000, uid-b 0.500000");
    assert_eq!(cost(&mut connection).await, "21.00");
    let said = reconcile(&mut connection, &july).await.unwrap().sentence;
    assert!(
        said.contains("on lines of their own: NAT and endpoints, of our machines $8.00; data transfer, of our machines $1.00."),
        "{said}"
    );
    assert!(said.ends_with("NAT and endpoints, of the account $35.50; data transfer, of the account $1.00."), "{said}");
    assert!(!said.contains("not posted"), "{said}");
    let saved = report::savings(&mut connection, &july.days(), By::Team, &[]).await.unwrap().sentence;
    assert!(saved.contains("$9.00 of other costs, credits and charges besides the machines counts toward no saving."), "{saved}");
    let parts = unit_economics(&mut connection, &july.days(), &[EconomicsBy::Endpoint], &[]).await.unwrap().sentence;
    assert!(parts.starts_with("AI cost $21.00: machines $12.00, vendors' APIs $0.00, data transfer $9.00, storage $0.00"), "{parts}");

    // The same again; a version whose tags say that all of it is ours; and back.
    assert_eq!(changed(&taken(&mut connection, Format::Cur, std::slice::from_ref(&half)).await.unwrap()), None);
    let whole = taken(&mut connection, Format::Cur, &[folder.file("whole/cur.csv", &bill(&lines("100")))]).await.unwrap();
    assert_eq!(by_machine(&mut connection, "nat").await, "uid-a 10.000000, uid-b 4.500000");
    assert_eq!(of_line(&mut connection, "transfer").await, "2.00");
    let mut found = verify::verify(&mut connection).await.unwrap().findings;
    found.extend(verify::recompute(&mut connection, &verify::Sample::default()).await.unwrap());
    assert!(found.is_empty(), "{found:?}");
    retract(&mut connection, whole.statements[0].id, "a test", LATER).await.unwrap();
    assert_eq!(of_line(&mut connection, "nat").await, "8.00");

    // A share that is none is refused; accepted, the gateway is the account's.
    let wrong = folder.file("wrong/cur.csv", &bill(&lines("half")));
    let fault = taken(&mut connection, Format::Cur, std::slice::from_ref(&wrong)).await.unwrap_err();
    assert!(
        fault.contains("natgateway/nat-1 is \"half\"; expected a share in percent from 0 to 100") && fault.contains("beyond-reason"),
        "{fault}"
    );
    let checks = Checks::accepting([lowtide::ledger::import::Check::BeyondReason]);
    import(&mut connection, Format::Cur, &[wrong], Options { checks, complete: true, ..Options::default() }, LATER).await.unwrap();
    assert_eq!(by_machine(&mut connection, "nat").await, "uid-a 1.000000, uid-b 0.500000");
}

/// AWS's own FOCUS file has the same gateways: what the bill takes of them is no other cost.
#[tokio::test]
async fn a_focus_file_leaves_our_part_of_a_gateway_to_the_bill() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 2).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("gateways-focus");
    let row = |cost: &str, resource: &str, tags: &str| {
        format!(
            "acct,USD,2026-07-01T00:00:00Z,Usage,2026-07-20T00:00:00Z,2026-07-21T00:00:00Z,{cost},{resource},Amazon VPC,AWS,\"{tags}\"\n"
        )
    };
    let header = "BillingAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ResourceId,ServiceName,ProviderName,Tags\n";
    let tag = |share: &str| format!("{{\"\"lowtide-share\"\": \"\"{share}\"\"}}");
    let rows = [
        row("8", GATEWAY, &tag("75")),
        row("3", GATEWAY, &tag("100")),
        row("5", "nat-gateway-of-others", "{}"),
        row("1", "lb-1", &tag("100")),
    ];
    let file = folder.file("focus.csv", &format!("{header}{}", rows.concat()));
    let taken = import(&mut connection, Format::Focus(&Mapping::default()), &[file], Options::default(), LATER).await.unwrap();
    assert_eq!((taken.left_out, of_line(&mut connection, "overhead").await), (2, "8.00".to_owned()), "a quarter of $8, $5 and $1");
}

/// C13: hours in which nothing of ours ran. The bill leaves our share of them with the account, and so does AWS's FOCUS file: it is on one line, and on one alone.
#[tokio::test]
async fn a_gateway_beside_which_nothing_of_ours_ran_is_the_accounts_in_both_files() {
    let Bench { url, ledger, server: _server } = bench().await;
    machine_of(&ledger, "a", DAY, 2).await;
    let mut connection = connect(&url).await.unwrap();
    let folder = Folder::new("gateways-idle");
    let header = "BillingAccountId,SubAccountId,BillingCurrency,BillingPeriodStart,ChargeCategory,ChargePeriodStart,ChargePeriodEnd,EffectiveCost,ResourceId,ServiceName,ProviderName,Tags\n";
    let row = |account: &str, resource: &str, hour: i64, cost: &str| {
        let (from, to) = (DAY + Millis::from_hours(hour), DAY + Millis::from_hours(hour + 1));
        let tags = "\"{\"\"lowtide-share\"\": \"\"75\"\"}\"";
        format!("acct,{account},USD,2026-07-01T00:00:00Z,Usage,{from},{to},{cost},{resource},Amazon VPC,AWS,{tags}\n")
    };
    let elsewhere = GATEWAY.replace("us-east-1", "eu-west-1");
    let ours = "444455556666";
    let rows = [
        row(ours, GATEWAY, 0, "4"),
        row(ours, GATEWAY, 1, "4"),
        // After the machine, in a region without one, and in an account without one.
        row(ours, GATEWAY, 2, "4"),
        row(ours, &elsewhere, 0, "4"),
        row("777788889999", GATEWAY, 1, "4"),
    ];
    let file = folder.file("focus.csv", &format!("{header}{}", rows.concat()));
    let focus = async |expected: (usize, &str)| {
        let mut connection = connect(&url).await.unwrap();
        let files = std::slice::from_ref(&file);
        let taken = import(&mut connection, Format::Focus(&Mapping::default()), files, Options::default(), LATER).await.unwrap();
        assert_eq!((taken.left_out, of_line(&mut connection, "overhead").await.as_str()), expected);
    };
    // No bill says yet in which account the machine is.
    focus((3, "11.00")).await;
    let gateway = |id: &str, hour: i64| (line(id, "Usage", GATEWAY, "NatGateway-Hours", hour, "1", "4", ""), "75", "");
    let machine = |hour: i64| (line(&format!("a{hour}"), "Usage", "i-a", "SpotUsage:g6.xlarge", hour, "1", "1.00", ""), "", "");
    let lines = [machine(0), machine(1), gateway("n0", 0), gateway("n1", 1), gateway("n2", 2)];
    taken(&mut connection, Format::Cur, &[folder.file("july/cur.csv", &bill(&lines))]).await.unwrap();
    // $6 of ours on the bill's line, and of the $12 of this gateway the other $6 with the account in either file.
    assert_eq!(of_line(&mut connection, "nat").await, "6.00");
    focus((2, "14.00")).await;
    let said = reconcile(&mut connection, &"2026-07".parse().unwrap()).await.unwrap().sentence;
    assert!(said.ends_with("NAT and endpoints, of the account $6.00."), "{said}");
}
