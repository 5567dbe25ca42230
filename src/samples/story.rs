//! What happened in the sample businesses, worked out from a few lists so that it is the same each time.

use chrono::{DateTime, Days, TimeDelta, Utc};
use rust_decimal::Decimal;

use crate::aggregates::customer::{CustomerCommand, CustomerDetails};
use crate::aggregates::ids::{CustomerId, InteractionId, InvoiceId, LeadId, NoteId, ProjectId, TenantId, UserId};
use crate::aggregates::interaction::{Interaction, InteractionDetails};
use crate::aggregates::invoice::{InvoiceCommand, InvoiceDetails, InvoiceLine};
use crate::aggregates::lead::{LeadCommand, LeadDetails, ScoreInputs};
use crate::aggregates::permission::{Grants, Role};
use crate::aggregates::project::{ProjectCommand, ProjectDetails};
use crate::aggregates::tenant::{TenantCommand, TenantDetails};
use crate::aggregates::user::{UserCommand, UserDetails};
use crate::aggregates::values::{
    CustomerStatus, Email, Hours, InteractionType, LeadSource, LeadStage, Money, Phone, Plan, Priority, ProjectStatus,
    Qualification, Rejected, Score, Text,
};

/// How long the history is.
const DAYS: i64 = 180;
/// How many leads came in.
const LEADS: u32 = 48;

/// A business of the samples.
pub(super) struct SampleBusiness {
    pub tenant: TenantId,
    pub name: &'static str,
    pub people: Vec<Person>,
    pub steps: Vec<Step>,
}

/// Somebody who works there.
#[derive(Clone)]
pub(super) struct Person {
    pub id: UserId,
    pub full_name: &'static str,
    pub email: String,
    pub role: Role,
    pub department: Option<&'static str>,
}

/// Something that somebody did at some time.
pub(super) struct Step {
    pub at: DateTime<Utc>,
    pub actor: Option<UserId>,
    pub role: Option<Role>,
    pub act: Act,
}

/// What they did.
#[derive(Clone)]
pub(super) enum Act {
    Found(TenantCommand, (UserId, UserCommand)),
    User(UserId, UserCommand),
    Lead(LeadId, LeadCommand),
    Convert(LeadId, CustomerId),
    Customer(CustomerId, CustomerCommand),
    Project(ProjectId, ProjectCommand),
    Invoice(InvoiceId, InvoiceCommand),
}

type People = [(&'static str, Role, Option<&'static str>)];

const ACME: &People = &[
    ("Wile Ericson", Role::BusinessOwner, None),
    ("Marta Lindqvist", Role::Manager, Some("sales")),
    ("Dev Raman", Role::Manager, Some("delivery")),
    ("Ines Carvalho", Role::Employee, Some("sales")),
    ("Tom Okafor", Role::Employee, Some("sales")),
    ("Yuki Sato", Role::Employee, Some("delivery")),
];

const TECHFLOW: &People = &[
    ("Noor Haddad", Role::BusinessOwner, None),
    ("Lukas Brandt", Role::Manager, Some("sales")),
    ("Ana Petrova", Role::Employee, Some("sales")),
    ("Sam Whitlock", Role::Employee, Some("support")),
];

const CONTACTS: [&str; 12] = [
    "Elif Demir",
    "Jonas Weber",
    "Priya Nair",
    "Hugo Martin",
    "Lena Fischer",
    "Omar Farouk",
    "Chloe Dubois",
    "Mateo Rossi",
    "Sofia Lind",
    "Kwame Mensah",
    "Mei Tan",
    "Oskar Nowak",
];

const COMPANIES: [&str; 16] = [
    "Nordlicht Optik",
    "Harbour Foods",
    "Vertex Mobility",
    "Bluebird Clinics",
    "Kestrel Logistics",
    "Solara Energy",
    "Paperhouse Press",
    "Granite Works",
    "Lumen Studios",
    "Orchard Schools",
    "Tidewater Yachts",
    "Redwood Homes",
    "Quanta Labs",
    "Meridian Travel",
    "Copperfield Bank",
    "Juniper Textiles",
];

const SUBJECTS: [&str; 6] =
    ["First call", "Questions about delivery", "Walk through the offer", "Prices", "Demo for the team", "Next steps"];

/// Both businesses, with all that happened until `now`.
pub(super) fn businesses(now: DateTime<Utc>) -> anyhow::Result<Vec<SampleBusiness>> {
    let told = |tenant, name, domain, plan, people, seed| {
        Teller::new(tenant, name, domain, plan, people, seed, now)
            .and_then(Teller::tell)
            .map_err(|rejected: Rejected| anyhow::anyhow!("the samples are not accepted: {rejected}"))
    };
    Ok(vec![
        told(TenantId::Business(0), "ACME Corporation", "acme.example", Plan::Professional, ACME, 7)?,
        told(TenantId::Business(1), "TechFlow Solutions", "techflow.example", Plan::Starter, TECHFLOW, 31)?,
    ])
}

/// The customer that a lead becomes.
pub(super) fn registered(
    lead: LeadId,
    details: CustomerDetails,
    owner: Option<UserId>,
    interactions: Vec<Interaction>,
) -> CustomerCommand {
    let status = Some(CustomerStatus::Active);
    CustomerCommand::RegisterFromLead { lead, details, status, owner, interactions }
}

/// The conversion itself.
pub(super) fn converted(customer: CustomerId) -> LeadCommand {
    LeadCommand::Convert { customer }
}

struct Teller {
    business: SampleBusiness,
    domain: &'static str,
    plan: Plan,
    seed: u32,
    now: DateTime<Utc>,
    customers: u32,
    interactions: u32,
    notes: u32,
    projects: u32,
    invoices: u32,
}

impl Teller {
    fn new(
        tenant: TenantId,
        name: &'static str,
        domain: &'static str,
        plan: Plan,
        people: &People,
        seed: u32,
        now: DateTime<Utc>,
    ) -> Result<Self, Rejected> {
        let people = people
            .iter()
            .zip(1..)
            .map(|(&(full_name, role, department), number)| Person {
                id: UserId(number),
                full_name,
                email: format!("{}@{domain}", full_name.to_lowercase().replace(' ', ".")),
                role,
                department,
            })
            .collect();
        let business = SampleBusiness { tenant, name, people, steps: Vec::new() };
        Ok(Self {
            business,
            domain,
            plan,
            seed,
            now,
            customers: 0,
            interactions: 0,
            notes: 0,
            projects: 0,
            invoices: 0,
        })
    }

    fn tell(mut self) -> Result<SampleBusiness, Rejected> {
        self.people()?;
        for number in 0..LEADS {
            self.lead(number)?;
        }
        self.business.steps.sort_by_key(|step| step.at);
        Ok(self.business)
    }

    /// Days and hours after the beginning, within working hours.
    fn at(&self, day: i64, hour: i64) -> DateTime<Utc> {
        let midnight = (self.now - TimeDelta::days(DAYS)).date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        midnight + TimeDelta::days(day) + TimeDelta::hours(8 + hour % 9) + TimeDelta::minutes(hour * 7 % 60)
    }

    /// A number below `below`, always the same for the same question.
    fn pick(&self, question: u32, below: u32) -> u32 {
        let mixed = (self.seed ^ question.wrapping_mul(0x9E37_79B9)).wrapping_mul(0x85EB_CA6B);
        ((mixed ^ (mixed >> 13)).wrapping_mul(0xC2B2_AE35) >> 8) % below.max(1)
    }

    fn step(&mut self, at: DateTime<Utc>, actor: Option<UserId>, act: Act) {
        // What would lie in the future has not happened.
        if at <= self.now {
            let role = actor.and_then(|id| self.business.people.iter().find(|person| person.id == id));
            self.business.steps.push(Step { at, actor, role: role.map(|person| person.role), act });
        }
    }

    fn people(&mut self) -> Result<(), Rejected> {
        let begun = self.at(0, 0);
        for person in self.business.people.clone() {
            let details = UserDetails {
                email: Email::new(&person.email)?,
                full_name: Text::new(person.full_name)?,
                role: person.role,
                department: person.department.map(Text::new).transpose()?,
                permissions: Grants::new(),
            };
            if person.role == Role::BusinessOwner {
                let business = TenantCommand::Register {
                    details: TenantDetails {
                        business_name: Text::new(self.business.name)?,
                        business_email: Email::new(&format!("office@{}", self.domain))?,
                        business_phone: Some(Phone::new("+1 555 010 0100")?),
                        address: None,
                        country: Some(Text::new("US")?),
                    },
                    region: Text::new("default")?,
                    plan: self.plan,
                    seat_limit: None,
                    platform: false,
                };
                let owner = (person.id, UserCommand::Register(details));
                self.step(begun, None, Act::Found(business, owner));
                continue;
            }
            let owner = UserId(1);
            let invited = begun + TimeDelta::minutes(i64::from(person.id.0) * 10);
            self.step(invited, Some(owner), Act::User(person.id, UserCommand::Invite { details, invited_by: owner }));
            let accepted = invited + TimeDelta::hours(1);
            self.step(accepted, Some(person.id), Act::User(person.id, UserCommand::AcceptInvitation {}));
        }
        Ok(())
    }

    fn of_department(&self, department: &str, number: u32) -> UserId {
        let there: Vec<UserId> = self
            .business
            .people
            .iter()
            .filter(|person| person.department == Some(department) && person.role == Role::Employee)
            .map(|person| person.id)
            .collect();
        let index = usize::try_from(number).unwrap_or(0) % there.len().max(1);
        there.get(index).copied().unwrap_or(UserId(1))
    }

    fn lead(&mut self, number: u32) -> Result<(), Rejected> {
        let id = LeadId(number);
        let seller = self.of_department("sales", number);
        let day = i64::from(number) * (DAYS - 8) / i64::from(LEADS) + 1;
        let hour = i64::from(self.pick(number, 9));
        let index = |length: usize, shift: u32| usize::try_from(number + shift).unwrap_or(0) % length;
        let contact = CONTACTS.get(index(CONTACTS.len(), self.seed)).copied().unwrap_or("Elif Demir");
        let company = COMPANIES.get(index(COMPANIES.len(), self.seed * 3)).copied().unwrap_or("Harbour Foods");
        let sources = [LeadSource::Website, LeadSource::Referral, LeadSource::Event, LeadSource::ColdCall];
        let source = sources.get(index(sources.len(), 0)).copied().unwrap_or_default();
        let value = Decimal::from(500 * (2 + self.pick(number + 500, 60)));
        let details = LeadDetails {
            name: Text::new(contact)?,
            company: Some(Text::new(company)?),
            job_title: Some(Text::new("Head of Operations")?),
            email: Some(Email::new(&format!("{}@example.com", contact.to_lowercase().replace(' ', ".")))?),
            phone: Some(Phone::new(&format!("+1 555 01{:02} {:04}", number % 100, 1000 + number * 37))?),
            address: None,
            source,
            estimated_value: Some(Money::new(value, "USD".parse()?)?),
            probability: None,
            expected_close_date: self.at(day + 45, 0).date_naive().checked_add_days(Days::new(0)),
        };
        let capture = LeadCommand::Capture { details, stage: None, qualification: None, assignee: Some(seller) };
        self.step(self.at(day, hour), Some(seller), Act::Lead(id, capture));

        // How far it comes: every third is won, every fifth lost, the others are on their way.
        let won = number.is_multiple_of(3);
        let lost = !won && number.is_multiple_of(5);
        let path = [LeadStage::Contacted, LeadStage::Qualified, LeadStage::Proposal, LeadStage::Negotiation];
        let reached = if won { path.len() } else { usize::try_from(self.pick(number + 900, 5)).unwrap_or(0) };
        let pace = 2 + i64::from(self.pick(number + 300, 4));
        let mut on = day;
        for (&stage, nth) in path.iter().take(reached).zip(0u32..) {
            on += pace;
            self.contact(id, seller, on, nth)?;
            self.step(self.at(on, 3), Some(seller), Act::Lead(id, LeadCommand::ChangeStage { stage }));
            if stage == LeadStage::Qualified {
                let qualify = LeadCommand::Qualify { qualification: Qualification::SalesQualified };
                self.step(self.at(on, 4), Some(seller), Act::Lead(id, qualify));
                let score = |question| Score::new(u64::from(30 + self.pick(number + question, 70)));
                let inputs = ScoreInputs {
                    engagement: score(41)?,
                    fit: score(42)?,
                    budget_confirmed: won || number.is_multiple_of(2),
                    decision_maker: number.is_multiple_of(4),
                    urgency: score(43)?,
                };
                self.step(self.at(on, 5), Some(seller), Act::Lead(id, LeadCommand::Score { inputs }));
            }
        }
        on += pace;
        if lost {
            let reason =
                Text::new(if number.is_multiple_of(2) { "Chose somebody else" } else { "No budget this year" })?;
            self.step(self.at(on, 2), Some(seller), Act::Lead(id, LeadCommand::Lose { reason }));
        }
        if won {
            self.won(id, seller, on, company, value)?;
        }
        Ok(())
    }

    fn contact(&mut self, lead: LeadId, seller: UserId, day: i64, nth: u32) -> Result<(), Rejected> {
        let kinds = [InteractionType::Call, InteractionType::Email, InteractionType::Meeting, InteractionType::Demo];
        let pick = usize::try_from(lead.0 + nth).unwrap_or(0);
        let details = InteractionDetails {
            kind: kinds.get(pick % kinds.len()).copied().unwrap_or(InteractionType::Call),
            subject: Text::new(SUBJECTS.get(pick % SUBJECTS.len()).copied().unwrap_or("First call"))?,
            description: None,
            outcome: Some(Text::new("Interested, wants to go on")?),
            priority: Priority::Medium,
            follow_up_date: None,
            billable: false,
            hours: None,
        };
        let at = self.at(day, 1);
        let id = InteractionId(self.interactions);
        self.interactions += 1;
        let command = LeadCommand::LogInteraction { id, details, by: Some(seller), at };
        self.step(at, Some(seller), Act::Lead(lead, command));
        Ok(())
    }

    fn won(&mut self, lead: LeadId, seller: UserId, day: i64, company: &str, value: Decimal) -> Result<(), Rejected> {
        let customer = CustomerId(self.customers);
        if self.at(day, 5) > self.now {
            return Ok(());
        }
        self.customers += 1;
        self.step(self.at(day, 5), Some(seller), Act::Convert(lead, customer));
        let note = CustomerCommand::AddNote {
            id: NoteId(self.notes),
            author: seller,
            title: Some(Text::new("How they decide")?),
            content: Text::new("Offers go to purchasing first; allow for two weeks.")?,
            private: false,
        };
        self.notes += 1;
        self.step(self.at(day, 6), Some(seller), Act::Customer(customer, note));
        let project = self.project(customer, day, company, value)?;
        self.invoice(customer, project, day + 10, company, value)
    }

    fn project(
        &mut self,
        customer: CustomerId,
        day: i64,
        company: &str,
        value: Decimal,
    ) -> Result<ProjectId, Rejected> {
        let id = ProjectId(self.projects);
        self.projects += 1;
        let leader = self.business.people.iter().find(|person| person.role == Role::Manager).map(|person| person.id);
        let (lead_by, done_by) = (leader.unwrap_or(UserId(1)), self.of_department("delivery", id.0));
        let (start, due) = (self.at(day + 2, 0).date_naive(), self.at(day + 40, 0).date_naive());
        let details = ProjectDetails {
            name: Text::new(&format!("Roll-out at {company}"))?,
            description: Some(Text::new("From the signed offer to the last training.")?),
            priority: if id.0.is_multiple_of(3) { Priority::High } else { Priority::Medium },
            budget: Some(Money::rounded(value * Decimal::new(8, 1), "USD".parse()?)?),
            start_date: Some(start),
            due_date: Some(due),
            hours_estimated: Some(Hours::new(Decimal::from(40 + 8 * (id.0 % 6)))?),
        };
        let plan = ProjectCommand::Plan { details, status: None, owner: Some(lead_by), customers: vec![customer] };
        let project = |command| Act::Project(id, command);
        self.step(self.at(day, 7), Some(lead_by), project(plan));
        let member = ProjectCommand::AssignMember { user: done_by, role: Text::new("Consultant")? };
        self.step(self.at(day + 1, 1), Some(lead_by), project(member));
        let begin = ProjectCommand::ChangeStatus { status: ProjectStatus::InProgress };
        self.step(self.at(day + 2, 1), Some(lead_by), project(begin));
        for week in 1..5 {
            let on = self.at(day + 2 + week * 7, 8);
            let hours = Hours::new(Decimal::new(650 + week * 25, 2))?;
            let log = ProjectCommand::LogHours { hours, on: on.date_naive(), user: done_by, note: None };
            self.step(on, Some(done_by), project(log));
        }
        if !id.0.is_multiple_of(4) {
            let done = ProjectCommand::ChangeStatus { status: ProjectStatus::Completed };
            self.step(self.at(day + 38, 2), Some(lead_by), project(done));
        }
        Ok(id)
    }

    fn invoice(
        &mut self,
        customer: CustomerId,
        project: ProjectId,
        day: i64,
        company: &str,
        value: Decimal,
    ) -> Result<(), Rejected> {
        if self.at(day, 1) > self.now {
            return Ok(());
        }
        let id = InvoiceId(self.invoices);
        self.invoices += 1;
        let owner = UserId(1);
        let issue_date = self.at(day, 1).date_naive();
        let lines = vec![
            InvoiceLine {
                description: Text::new(&format!("Roll-out at {company}, first half"))?,
                quantity: Decimal::ONE,
                unit_price: (value / Decimal::TWO).round_dp(2),
                tax_rate: Decimal::from(8),
            },
            InvoiceLine {
                description: Text::new("Training, per hour")?,
                quantity: Decimal::from(6),
                unit_price: Decimal::from(120),
                tax_rate: Decimal::from(8),
            },
        ];
        let draft = InvoiceCommand::Draft(InvoiceDetails {
            number: None,
            customer,
            project: Some(project),
            currency: "USD".parse()?,
            lines,
            amount: None,
            issue_date,
            due_date: self.at(day + 30, 1).date_naive(),
            notes: None,
            terms: Some(Text::new("Net 30 days")?),
        });
        let invoice = |command| Act::Invoice(id, command);
        self.step(self.at(day, 1), Some(owner), invoice(draft));
        if id.0 % 7 != 6 {
            self.step(self.at(day, 3), Some(owner), invoice(InvoiceCommand::Send {}));
        }
        if id.0 % 3 != 2 && id.0 % 7 != 6 {
            self.step(self.at(day + 2, 3), Some(owner), invoice(InvoiceCommand::MarkViewed {}));
            let paid = self.at(day + 21, 3);
            let pay = InvoiceCommand::Pay { paid_on: paid.date_naive(), today: paid.date_naive() };
            self.step(paid, Some(owner), invoice(pay));
        }
        Ok(())
    }
}
