-- What an invitation's token is good for, one for a new password is as well: somebody chooses a password, once.

alter table platform.invitations rename to one_time_tokens;
alter index platform.invitations_pkey rename to one_time_tokens_pkey;
alter index platform.invitations_of_user rename to one_time_tokens_of_user;

-- The defaults are for those that are there already.
alter table platform.one_time_tokens
    add column purpose text not null default 'invitation' check (purpose in ('invitation', 'password_reset')),
    -- who handed it out, as events name an actor
    add column issued_by text not null default 'system';
alter table platform.one_time_tokens
    alter column purpose drop default,
    alter column issued_by drop default;
